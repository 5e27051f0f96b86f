"""Which actions are open to a user, and which of them is drawn."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from kernel.caps import Room, Touches, counted, has_room
from kernel.learning import Action
from realtime.policy import Policy, checked, draw
from realtime.seldom import Seldom

#: eligibility and consent: why this user must not get the action, or None. Raises when it cannot tell, and
#: then the user gets nothing but the default
Allowed = Callable[[str, Action], str | None]
#: logged as the policy of a decision in which no policy had a say
NO_POLICY = "default"

_log = logging.getLogger(__name__)
_log.addFilter(Seldom())


class Nothing(Exception):
    """Nothing can be chosen, for this reason; `degraded` when it is because something is down."""

    def __init__(self, reason: str, *, degraded: bool, store_is_up: bool = True) -> None:
        self.degraded, self.store_is_up = degraded, store_is_up
        super().__init__(reason)


def anything(_user_id: str, _action: Action) -> str | None:
    """Forbids nothing."""
    return None


def open_to(
    user_id: str,
    offered: Sequence[Action],
    prices: Mapping[str, float],
    allowed: Allowed | None,
    rooms: Callable[[str, str, int], Sequence[Room]],
    touches: Touches,
    at: int,
    full: Collection[str],
) -> tuple[tuple[Action, ...], list[str]]:
    """The actions that may be shown and are worth their price, in order; and why each other is not.
    `full`: channels and resources that turned out to have no room. Raises Nothing when none is left."""
    left, dropped, capped = [], [], dict[str, str | None]()
    for action in offered:
        refusal = None
        if allowed is not None:
            try:
                refusal = allowed(user_id, action)
            except Exception as error:  # whatever it is, a user is waiting
                _log.exception("consent cannot be checked")
                raise Nothing(f"consent and caps cannot be checked: {error}", degraded=True) from error
        if refusal is None and action.channel is not None:
            if action.channel not in capped:
                capped[action.channel] = _capped(rooms(user_id, action.channel, at), touches, at)
            refusal = capped[action.channel]
        if refusal is None:
            refusal = _too_dear(action, prices)
        if refusal is None and full:
            refusal = next((f"{each} has no room" for each in full if each in _uses(action)), None)
        if refusal is None:
            left.append(action)
        else:
            dropped.append(f"{action.id}: {refusal}")
    if not left:
        raise Nothing(f"nothing is left: {'; '.join(dropped)}", degraded=False)
    return tuple(left), dropped


def choose(
    policy: Policy,
    context: Mapping[str, object],
    left: Sequence[Action],
    prices: Mapping[str, float],
    seed: int,
    decision_id: str,
) -> tuple[tuple[float, ...], str, int]:
    """The policy's checked distribution over the actions, their prices in their cost; its name; and the
    position drawn, which `seed` and the decision's id name. Raises Nothing, degraded, when it fails."""
    try:
        name = policy.name
        seen = [each if each.resource is None else priced(each, prices) for each in left]
        propensities = checked(policy.distribution(context, seen), len(left), name)
    except Exception as error:  # whatever it is, a user is waiting
        _log.exception("the policy failed")
        raise Nothing(f"the policy failed: {error}", degraded=True) from error
    return propensities, name, draw(propensities, seed, decision_id)


def priced(action: Action, prices: Mapping[str, float]) -> Action:
    """An action as the policy sees it: the price in its cost."""
    if action.resource is None:
        return action
    # what `model_copy` does, five times as fast: prices move, so this is done for every decision
    copy = Action.__new__(Action)
    object.__setattr__(copy, "__dict__", {**vars(action), "cost": action.cost + prices[action.resource]})
    for name in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(copy, name, getattr(action, name))
    return copy


def reason_of(
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


def _capped(rooms: Sequence[Room], touches: Touches, at: int) -> str | None:
    """By the user's own touches; those of her household are asked for when she is touched."""
    for room in rooms:
        if room.at_most == 0:
            return f"cap {room.name} allows none"
        if (
            touches.most >= room.at_most
            and room.entity == "user"
            and not has_room(room, at, counted(room, touches.held()))
        ):
            return f"cap {room.name} of {room.at_most} is reached"
    return None


def _uses(action: Action) -> tuple[str, str]:
    return f"channel {action.channel}", f"resource {action.resource}"


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
