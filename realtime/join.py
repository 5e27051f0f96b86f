"""Decisions joined with their outcomes from the journals, each once, when its reward is final.

A reward is final when its rule's window and grace are over. All writers' decisions are merged in the order
in which they become final, each with the outcomes that had been reported by then: what comes, and in which
order, follows from the journals alone. Only the outcomes of open windows are held in memory; decisions stay
in the journals until their turn.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from kernel.learning import Action
from realtime.ports import JournalReader, Position
from realtime.records import Choice, decode_decision, decode_outcome, decode_void, head, moment_of
from realtime.rewards import ELSEWHERE, NET_VALUE, Outcome, RewardRule

#: moment, or `ELSEWHERE`, → writer → behind the last decision of that moment that was joined
Places = Mapping[str, Mapping[str, Position]]

START: Position = (0, 0)
_MICROSECOND = timedelta(microseconds=1)
#: a record is in its journal so long after the time that it names, at the latest
SETTLED = timedelta(seconds=1) // _MICROSECOND
_MINUTE = timedelta(minutes=1) // _MICROSECOND


class Joined(NamedTuple):
    """A decision and what came of it."""

    choice: Choice
    actions: Sequence[Action]
    #: value of the outcomes − cost of the action, in major units
    reward: float
    #: outcomes in it
    outcomes: int
    #: outcomes that had come by then and are not in it: too late, repeated, or of a name not counted
    passed_over: int
    #: instant at which it became final, microseconds since 1970, UTC
    final: int


@dataclass(kw_only=True)
class _Cursor:
    """The place of one rule's decisions in one writer's journal."""

    rule: RewardRule
    writer: str
    #: from a decision to the instant when it is final, microseconds
    delay: int
    #: all of the rule's decisions before it are joined
    place: Position
    #: moment → decisions of it up to here were joined under another rule
    joined: Mapping[str, Position]
    #: read and not joined: when final, place behind it
    ahead: deque[tuple[int, Position, Choice]] = field(default_factory=deque)
    #: read, and nothing of this rule: when it would be final, place behind it; one a minute
    others: deque[tuple[int, Position]] = field(default_factory=deque)
    #: behind the last record read
    end: Position
    #: when that would be final
    seen: int = 0


@dataclass(kw_only=True)
class _Tail:
    """How far a writer's outcomes are read."""

    end: Position
    #: time of the last record read
    seen: int = 0
    #: there was nothing more when last looked
    dry: bool = False


class Join:
    """Goes on behind `places`; outcomes of decisions behind them are looked for from `listen` on
    (writer → position; absent: from the beginning).

    `rules`: moment → rule, `ELSEWHERE` for all others. A moment that changes its rule goes on where the
    old one stood. Raises Unavailable when a journal does not answer.
    """

    def __init__(
        self,
        journal: JournalReader,
        *,
        rules: Mapping[str, RewardRule] | None = None,
        places: Places | None = None,
        listen: Mapping[str, Position] | None = None,
    ) -> None:
        self._journal = journal
        self._rules = {ELSEWHERE: NET_VALUE, **(rules or {})}
        self._before, self._listen_from = places or {}, listen or {}
        self._longest = max(rule.delay // _MICROSECOND for rule in self._rules.values())
        self._moments = sorted({*self._rules, *self._before})
        self._cursors: list[_Cursor] = []
        self._tails: dict[str, _Tail] = {}
        self._waiting: dict[str, list[Outcome]] = {}
        #: decisions ahead that were never answered
        self._void: set[str] = set()
        self._arrived: deque[tuple[int, str]] = deque()

    def final(self, now: int, limit: int) -> Iterator[Joined]:
        """At most `limit` of the decisions that are final at `now` (microseconds since 1970, UTC), in
        that order. One counts as joined when the next is asked for."""
        self._discover()
        for tail in self._tails.values():
            tail.dry = False
        heap = [
            (*each.ahead[0][:2], number) for number, each in enumerate(self._cursors) if self._fill(each, now)
        ]
        heapq.heapify(heap)
        while heap and limit > 0 and heap[0][0] <= now:
            final, place, number = heapq.heappop(heap)
            cursor = self._cursors[number]
            self._hear(final)
            choice = cursor.ahead[0][2]
            if choice.decision_id in self._void:
                self._pass_over(cursor, place, choice.decision_id)
                if self._fill(cursor, now):
                    heapq.heappush(heap, (*cursor.ahead[0][:2], number))
                continue
            came = self._waiting.get(choice.decision_id, ())
            value, used = cursor.rule.value(choice.decided, came) if came else (cursor.rule.default, 0)
            actions = choice.actions
            net = value - actions[choice.chosen].cost
            in_time = sum(each.received <= final for each in came)
            yield Joined(choice, actions, net, used, in_time - used, final)
            self._pass_over(cursor, place, choice.decision_id)
            limit -= 1
            if self._fill(cursor, now):
                heapq.heappush(heap, (*cursor.ahead[0][:2], number))
        if limit > 0:
            self._hear(now)

    def _pass_over(self, cursor: _Cursor, place: Position, decision_id: str) -> None:
        cursor.ahead.popleft()
        cursor.place = place
        self._waiting.pop(decision_id, None)
        self._void.discard(decision_id)

    def settle(self, until: int) -> None:
        """Everything that is final at `until` has been joined: passes over what lies between, and lets go
        of outcomes that no decision can ask for any more."""
        for cursor in self._cursors:
            while cursor.others and cursor.others[0][0] <= until:
                place = cursor.others[0][1]
                if cursor.ahead and cursor.ahead[0][1] < place:
                    break
                cursor.place = max(cursor.place, place)
                cursor.others.popleft()
        while self._arrived and self._arrived[0][0] + self._longest + 2 * SETTLED < until:
            self._waiting.pop(self._arrived.popleft()[1], None)

    @property
    def places(self) -> dict[str, dict[str, Position]]:
        """Behind what was joined."""
        return {
            moment: {
                **self._before_of(moment),
                **{
                    each.writer: max(each.place, _joined(each, moment))
                    for each in self._cursors
                    if each.rule is self._rule(moment)
                },
            }
            for moment in self._moments
        }

    @property
    def waiting(self) -> int:
        """Decisions with outcomes in memory."""
        return len(self._waiting)

    def _rule(self, moment: str) -> RewardRule:
        return self._rules.get(moment) or self._rules[ELSEWHERE]

    def _before_of(self, moment: str) -> Mapping[str, Position]:
        return self._before.get(moment, self._before.get(ELSEWHERE, {}))

    def _discover(self) -> None:
        for writer in self._journal.writers():
            if writer in self._tails:
                continue
            self._tails[writer] = _Tail(end=self._listen_from.get(writer, START))
            rules = {id(rule): rule for rule in self._rules.values()}
            for rule in rules.values():
                joined = {
                    moment: self._before_of(moment).get(writer, START)
                    for moment in self._moments
                    if self._rule(moment) is rule
                }
                place = min(joined.values())
                self._cursors.append(
                    _Cursor(
                        rule=rule,
                        writer=writer,
                        delay=rule.delay // _MICROSECOND,
                        place=place,
                        joined=joined,
                        end=place,
                    )
                )

    def _fill(self, cursor: _Cursor, now: int) -> bool:
        """Reads on until a decision of the cursor is ahead, or what is read is not final yet."""
        while not cursor.ahead:
            if cursor.seen > now or not (records := self._journal.read(cursor.writer, cursor.end)):
                return False
            for place, record in records:
                kind, at = head(record)
                cursor.end, cursor.seen = place, at + cursor.delay
                if kind == b"D" and self._takes(cursor, moment_of(record), place):
                    cursor.ahead.append((cursor.seen, place, decode_decision(record)))
                    continue
                if cursor.others and cursor.others[-1][0] // _MINUTE == cursor.seen // _MINUTE:
                    cursor.others.pop()
                cursor.others.append((cursor.seen, place))
        return True

    def _takes(self, cursor: _Cursor, moment: str, place: Position) -> bool:
        return self._rule(moment) is cursor.rule and place > _joined(cursor, moment)

    def _hear(self, until: int) -> None:
        """Reads all outcomes that were received by then."""
        for writer, tail in self._tails.items():
            while not tail.dry and tail.seen <= until + SETTLED:
                records = self._journal.read(writer, tail.end)
                tail.dry = not records
                for place, record in records:
                    kind, tail.seen = head(record)
                    tail.end = place
                    if kind == b"O":
                        outcome = decode_outcome(record)
                        if outcome.decision_id not in self._waiting:
                            self._waiting[outcome.decision_id] = []
                            self._arrived.append((outcome.received, outcome.decision_id))
                        self._waiting[outcome.decision_id].append(outcome)
                    elif kind == b"V":
                        self._void.add(decode_void(record))


def _joined(cursor: _Cursor, moment: str) -> Position:
    return cursor.joined.get(moment, cursor.joined.get(ELSEWHERE, START))
