"""One decision: eligibility, price, policy, draw, log, answer. Never learns."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import uuid4

from kernel.clock import Clock
from kernel.errors import BadInput, NotFound, Unavailable
from kernel.learning import Action, Decision
from realtime.moments import MOMENTS, DecisionRequest, Moment
from realtime.policy import Policy, checked, draw
from realtime.ports import DecisionLog

#: consent, caps and the like: why this user must not get the action, or None. Raises Unavailable
#: when it cannot tell, and then the user gets nothing but the default: caps fail closed
Allowed = Callable[[str, Action], str | None]
#: logged as the policy of a decision in which no policy had a say
NO_POLICY = "default"

_log = logging.getLogger(__name__)


def anything(_user_id: str, _action: Action) -> str | None:
    """Forbids nothing."""
    return None


def new_decision_id() -> str:
    return uuid4().hex


def decide(
    request: DecisionRequest,
    *,
    policy: Policy,
    prices: Mapping[str, float],
    log: DecisionLog,
    clock: Clock,
    seed: int,
    allowed: Allowed = anything,
    moments: Mapping[str, Moment] = MOMENTS,
    new_id: Callable[[], str] = new_decision_id,
) -> Decision:
    """What to show now; durably logged before it is returned.

    `prices`: resource → price of one use today, major units. An action whose value does not exceed
    its cost + price is dropped, and so is one whose resource has no price: it is in no budget. One
    that is free and claims no value stays: showing it can only teach.
    The draw is named by `seed` and the decision's id.

    In an outage: the moment's default with `degraded`; when it is the log that is down, that answer
    is not logged, and its outcomes will be unknown. Raises BadInput for a moment that nobody knows,
    a call without any action, and an idempotency key that another user or moment has used.
    """
    moment = moments.get(request.moment)
    if moment is None:
        raise NotFound("moment", request.moment, moments)
    offered = request.actions if request.actions is not None else moment.actions
    if not offered:
        raise BadInput("names no action, and this moment has none configured", field="actions", value="[]")
    decision_id, at = new_id(), clock.now()
    try:
        if (made := _made_before(request, log)) is not None:
            return made
        try:
            left, dropped = _affordable(request.user_id, offered, prices, allowed)
            propensities, name = _distribution(policy, request.context, left, prices)
            position = draw(propensities, seed, decision_id)
            decision = Decision(
                decision_id=decision_id,
                user_id=request.user_id,
                moment=request.moment,
                decided_at=at,
                context=dict(request.context),
                actions=tuple(each.id for each in left),
                propensities=propensities,
                action=left[position].id,
                propensity=propensities[position],
                policy=name,
                prices={each.resource: prices[each.resource] for each in left if each.resource is not None},
                reason=_reason(left[position], len(left), propensities[position], name, prices, dropped),
            )
        except _Nothing as nothing:
            left, decision = (moment.default,), _default(request, decision_id, at, moment, nothing)
        made = log.append(decision, left, key=request.idempotency_key, session_id=request.session_id)
        return made if made is decision else _same_request(made, request)
    except Unavailable as error:
        _log.warning("decision %s is not logged: %s", decision_id, error)
        down = _Nothing(f"the decision log is down: {error}", degraded=True)
        return _default(request, decision_id, at, moment, down)


class _Nothing(Exception):
    """Nothing can be chosen, for this reason; `degraded` when it is because something is down."""

    def __init__(self, reason: str, *, degraded: bool) -> None:
        self.degraded = degraded
        super().__init__(reason)


def _made_before(request: DecisionRequest, log: DecisionLog) -> Decision | None:
    if request.idempotency_key is None:
        return None
    made = log.by_key(request.idempotency_key)
    return None if made is None else _same_request(made, request)


def _same_request(made: Decision, request: DecisionRequest) -> Decision:
    if (made.user_id, made.moment) != (request.user_id, request.moment):
        raise BadInput(
            "was used before, for another user or moment",
            field="idempotency_key",
            value=request.idempotency_key,
        )
    return made


def _affordable(
    user_id: str, offered: Sequence[Action], prices: Mapping[str, float], allowed: Allowed
) -> tuple[tuple[Action, ...], list[str]]:
    """The actions that may be shown and are worth their price, in order; and why each other is not."""
    left, dropped = [], []
    for action in offered:
        try:
            refusal = allowed(user_id, action) or _too_dear(action, prices)
        except Exception as error:  # whatever it is, a user is waiting
            _log.exception("consent and caps cannot be checked")
            raise _Nothing(f"consent and caps cannot be checked: {error}", degraded=True) from error
        if refusal is None:
            left.append(action)
        else:
            dropped.append(f"{action.id}: {refusal}")
    if not left:
        raise _Nothing(f"nothing is left: {'; '.join(dropped)}", degraded=False)
    return tuple(left), dropped


def _distribution(
    policy: Policy, context: Mapping[str, object], left: Sequence[Action], prices: Mapping[str, float]
) -> tuple[tuple[float, ...], str]:
    """The policy's checked distribution over the actions, their prices in their cost; and its name."""
    try:
        name = policy.name
        seen = [priced(action, prices) for action in left]
        return checked(policy.distribution(context, seen), len(left), name), name
    except Exception as error:  # whatever it is, a user is waiting
        _log.exception("the policy failed")
        raise _Nothing(f"the policy failed: {error}", degraded=True) from error


def _too_dear(action: Action, prices: Mapping[str, float]) -> str | None:
    price = 0.0
    if action.resource is not None:
        price = prices.get(action.resource, math.nan)
        if not math.isfinite(price):
            return f"resource {action.resource!r} has no price today"
    due = action.cost + price
    if action.value > due or (due == 0 and action.value == 0):
        return None
    return f"value {action.value:.2f} does not exceed cost {action.cost:.2f} + price {price:.2f}"


def priced(action: Action, prices: Mapping[str, float]) -> Action:
    """An action as the policy sees it: the price in its cost."""
    if action.resource is None:
        return action
    return action.model_copy(update={"cost": action.cost + prices[action.resource]})


def _reason(
    action: Action,
    count: int,
    propensity: float,
    name: str,
    prices: Mapping[str, float],
    dropped: Sequence[str],
) -> str:
    price = 0.0 if action.resource is None else prices[action.resource]
    drawn = (
        f"{action.id} was drawn from {count} by {name} with probability {propensity:.3f}; "
        f"value {action.value:.2f} exceeds cost {action.cost:.2f} + price {price:.2f}"
    )
    return "; dropped: ".join([drawn, "; ".join(dropped)]) if dropped else drawn


def _default(
    request: DecisionRequest, decision_id: str, at: datetime, moment: Moment, nothing: _Nothing
) -> Decision:
    return Decision(
        decision_id=decision_id,
        user_id=request.user_id,
        moment=request.moment,
        decided_at=at,
        context=dict(request.context),
        actions=(moment.default.id,),
        propensities=(1.0,),
        action=moment.default.id,
        propensity=1.0,
        policy=NO_POLICY,
        prices={},
        reason=str(nothing),
        degraded=nothing.degraded,
    )
