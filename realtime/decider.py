"""The decision service: one call, from a request to an answer that is in the journal.

Idempotency → eligibility → consent → caps → price → policy → draw → journal → admission → answer. Reads no
warehouse and never learns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from kernel.caps import Caps, Room, Touches
from kernel.clock import Clock, micros
from kernel.contact import Cap
from kernel.errors import BadInput, NotFound, Unavailable
from kernel.learning import Action
from realtime.answers import Answer, default_answer, stands
from realtime.choosing import NO_POLICY, Allowed, Nothing, choose, open_to, reason_of
from realtime.decision_ids import DecisionIds
from realtime.fresh import with_fresh
from realtime.moments import DecisionRequest, Moment
from realtime.policy import Policy
from realtime.ports import JournalWriter, OnlineStore
from realtime.records import as_json, decision_record, encode_void
from realtime.seldom import Seldom

#: resource, amount, id → False when its budget has not so much left; the same id is counted once
Spend = Callable[[str, float, str], bool]
#: resource, amount, id: undoes a spend, or what may have been one; never raises
GiveBack = Callable[[str, float, str], None]
#: user, channel, instant → caps that count a touch of this user through it then
Rooms = Callable[[str, str, int], Sequence[Room]]
#: user → whose touches hers are too, such as `{"household": "7"}`; None: nobody's
Entities = Callable[[str], Mapping[str, str] | None]

_log = logging.getLogger(__name__)
_log.addFilter(Seldom())


class Decider:
    """Safe for threads as far as policy, store and journal are.

    `prices`: resource → price of one use now, major units. An action whose value does not exceed its cost +
    price is dropped, and so is one whose resource has no price: it is in no budget. One that is free and
    claims no value stays: showing it can only teach. `member`: whether a group has a user; raises when it
    cannot tell, and then a moment that is for groups answers its default, degraded. `forgotten`: whether a
    user is not to be known here. `held_out`: whether a user gets every moment's default, so that what the
    others get can be measured; it is in the journal as any other decision.

    In an outage: the moment's default with `degraded`. When it is the store that is down, that answer is in
    the journal and not under its key: ask again. When it is the journal, it is nowhere, and its outcomes will
    be unknown.
    """

    def __init__(
        self,
        *,
        policy: Callable[[], Policy],
        store: OnlineStore,
        journal: JournalWriter,
        ids: DecisionIds,
        clock: Clock,
        seed: int,
        prices: Callable[[], Mapping[str, float]],
        moments: Callable[[], Mapping[str, Moment]],
        rooms: Rooms = lambda *_: (),
        entities: Entities = lambda _: None,
        spend: Spend | None = None,
        give_back: GiveBack | None = None,
        allowed: Allowed | None = None,
        member: Callable[[str, str], bool] | None = None,
        forgotten: Callable[[str], bool] = lambda _: False,
        held_out: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._policy, self._store, self._journal, self._ids = policy, store, journal, ids
        self._clock, self._seed = clock, seed
        self._prices, self._moments = prices, moments
        self._rooms, self._entities = rooms, entities
        self._spend, self._give_back = spend, give_back
        self._allowed, self._forgotten, self._member = allowed, forgotten, member
        self._held_out = held_out

    def decide(self, request: DecisionRequest) -> Answer:
        """What to show now. Raises BadInput for a moment that nobody knows, a call without any action, and
        an idempotency key that this user has used for another moment."""
        moments = self._moments()
        moment = moments.get(request.moment)
        if moment is None:
            raise NotFound("moment", request.moment, moments)
        offered = request.actions if request.actions is not None else moment.actions
        if not offered:
            raise BadInput(
                "names no action, and this moment has none configured", field="actions", value="[]"
            )
        at = micros(self._clock.now())
        try:
            if self._forgotten(request.user_id):
                why = "this user was forgotten"
                return default_answer(moment, request.moment, at, uuid4().hex, why, False)
            return self._decided(request, moment, offered, at)
        except Unavailable as error:
            _log.warning("a decision is not logged: %s", error)
            why = f"the decision log is down: {error}"
            return default_answer(moment, request.moment, at, uuid4().hex, why, True)

    def _decided(
        self, request: DecisionRequest, moment: Moment, offered: Sequence[Action], at: int
    ) -> Answer:
        user, key, session = request.user_id, request.idempotency_key, request.session_id
        context: dict[str, Any] = dict(request.context)
        try:
            try:
                standing, touches, step, recent = self._store.look(user, at, key=key, session=session)
            except Unavailable as error:
                raise _store_down(error) from error
            if standing is not None:
                return stands(standing, request)
            if self._held_out(user):
                raise Nothing("this user is held out, so that effects can be measured", degraded=False)
            if moment.groups:
                self._check_groups(user, moment.groups)
            if session is not None or recent:
                context = with_fresh(context, recent, at, None if session is None else request.moment, step)
            full: set[str] = set()
            while True:
                became = self._attempt(request, moment, offered, context, touches, at, full)
                if isinstance(became, Answer):
                    return became
                full.add(became)
        except Nothing as nothing:
            decision_id = self._ids.new(at, request.moment)
            answer = default_answer(moment, request.moment, at, decision_id, str(nothing), nothing.degraded)
            self._write(request, answer, (1.0,), (moment.default,), 0, context, {})
            if nothing.store_is_up and (key is not None or session is not None):
                return self._admitted_default(request, answer)
            return answer

    def _check_groups(self, user: str, groups: Sequence[str]) -> None:
        """Raises Nothing for who is in none of them."""
        try:
            if self._member is None:
                raise Unavailable("groups are not served here")
            if any(self._member(each, user) for each in groups):
                return
        except Exception as error:  # whatever it is, a user is waiting
            _log.exception("groups cannot be asked")
            raise Nothing(f"groups cannot be asked: {error}", degraded=True) from error
        raise Nothing(f"this user is in none of the groups {', '.join(groups)}", degraded=False)

    def _attempt(
        self,
        request: DecisionRequest,
        moment: Moment,
        offered: Sequence[Action],
        context: Mapping[str, Any],
        touches: Touches,
        at: int,
        full: set[str],
    ) -> Answer | str:
        """An answer; or the channel or resource of which, though it looked otherwise, nothing is left."""
        prices = self._prices()
        try:
            left, dropped = open_to(
                request.user_id, offered, prices, self._allowed, self._rooms, touches, at, full
            )
        except Unavailable as error:
            raise _store_down(error) from error
        decision_id = self._ids.new(at, request.moment)
        propensities, name, position = choose(self._policy(), context, left, prices, self._seed, decision_id)
        action, propensity = left[position], propensities[position]
        reason = reason_of(action, len(left), propensity, name, prices, dropped)
        answer = Answer(decision_id, request.moment, action.id, propensity, name, at, reason, False)
        paid = {each.resource: prices[each.resource] for each in left if each.resource is not None}
        self._write(request, answer, propensities, left, position, context, paid)
        spent = self._spent(action, answer)
        if not spent:
            self._void(answer)
            return f"resource {action.resource}"
        try:
            became = self._admitted(request, answer, action.channel)
        except Nothing:
            if request.idempotency_key is None:  # else it may stand under its key, and be shown by and by
                self._take_back(action, answer)
            raise
        if became is None:
            return answer
        self._take_back(action, answer)
        return became

    def _spent(self, action: Action, answer: Answer) -> bool:
        """Whether it is, or need not be."""
        if action.resource is None or self._spend is None:
            return True
        try:
            return self._spend(action.resource, 1.0, answer.decision_id)
        except Unavailable as error:
            self._take_back(action, answer)
            raise _store_down(error) from error

    def _take_back(self, action: Action, answer: Answer) -> None:
        """Nobody is shown it: it is void, and what it used is free again."""
        if action.resource is not None and self._give_back is not None:
            self._give_back(action.resource, 1.0, answer.decision_id)
        self._void(answer)

    def _void(self, answer: Answer) -> None:
        self._journal.append(encode_void(answer.decision_id, answer.decided))

    def _admitted(self, request: DecisionRequest, answer: Answer, channel: str | None) -> Answer | str | None:
        """None when it is; else what stands under the key, or the channel that has no room."""
        if channel is None and request.idempotency_key is None and request.session_id is None:
            return None
        user = request.user_id
        rooms = () if channel is None else self._rooms(user, channel, answer.decided)
        try:
            standing, refused = self._store.admit(
                request.user_id,
                answer.decided,
                key=request.idempotency_key,
                answer=as_json(answer),
                session=request.session_id,
                channel=channel,
                rooms=rooms,
                entities=None if channel is None else self._entities(user),
            )
        except Unavailable as error:
            raise _store_down(error) from error
        if standing is not None:
            return stands(standing, request)
        return None if refused is None else f"channel {channel}"

    def _admitted_default(self, request: DecisionRequest, answer: Answer) -> Answer:
        try:
            became = self._admitted(request, answer, None)
        except Nothing:  # it stands in the journal, and under no key
            return answer._replace(degraded=True)
        if not isinstance(became, Answer):
            return answer
        self._void(answer)
        return became

    def _write(
        self,
        request: DecisionRequest,
        answer: Answer,
        propensities: Sequence[float],
        left: Sequence[Action],
        position: int,
        context: Mapping[str, Any],
        prices: Mapping[str, float],
    ) -> None:
        rest = {
            "user_id": request.user_id,
            "session_id": request.session_id,
            "idempotency_key": request.idempotency_key,
            "propensities": propensities,
            "policy": answer.policy,
            "prices": prices,
            "reason": answer.reason,
            "degraded": answer.degraded,
        }
        self._journal.append(
            decision_record(
                answer.decision_id,
                answer.moment,
                answer.decided,
                position,
                answer.propensity,
                answer.policy != NO_POLICY,
                context,
                left,
                rest,
            )
        )


def rooms_of(
    caps: Iterable[Cap], zone: Callable[[str], str] = lambda _: "UTC", entities: Entities = lambda _: None
) -> Rooms:
    """The caps that count a touch; what is shown in real time is marketing. `zone`: of a user."""
    told = Caps(caps)

    def rooms(user: str, channel: str, at: int) -> tuple[Room, ...]:
        if not told.calendar and not told.entities:
            return told.rooms(at, channel)
        whose = sorted(entities(user) or ()) if told.entities else ()
        return told.rooms(at, channel, zone=zone(user), entities=whose)

    return rooms


def _store_down(error: Unavailable) -> Nothing:
    _log.warning("only defaults are answered: %s", error)
    return Nothing(f"what is shared cannot be asked: {error}", degraded=True, store_is_up=False)
