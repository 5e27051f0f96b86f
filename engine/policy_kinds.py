"""How a policy is made of what it is called and told: `kind` and parameters, as the registry keeps them.

Two kinds are made of others: `apprentice` of a rule and a learner, `sequential` of a base and of what is
fitted from sessions. Their parts are told as `rule=fixed rule.action=coupon`, `base=ridge base.epsilon=0.05`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, TypeVar

from kernel.errors import BadInput, NotFound
from models.api import ValueToGo
from realtime.api import POLICIES, Apprentice, FutureWorth, Learner, Promoted, Sequential, no_worth

Made = TypeVar("Made", bound=Learner)
APPRENTICE, SEQUENTIAL = "apprentice", "sequential"
#: what goes by nothing that is learned, and so can be imitated
RULES = ("fixed", "greedy")
#: of `sequential`, for the fit of the value-to-go
_FIT = ("explore", "discount")


def made_from(made_by: Mapping[str, Any]) -> Learner:
    """A fresh policy. Raises NotFound for an unknown kind, BadInput for parameters that it does not take."""
    kind = made_by["kind"]
    told = {name: value for name, value in made_by.items() if name != "kind"}
    if kind == APPRENTICE:
        return _apprentice(told)
    if kind == SEQUENTIAL:
        return _sequential(told, no_worth, b"")
    return _made(kind, POLICIES, told, field="--policy", kinds=[*POLICIES, APPRENTICE, SEQUENTIAL])


def sequential(made_by: Mapping[str, Any], worth: ValueToGo) -> Learner:
    """The fresh policy of kind `sequential` that foresees `worth`."""
    told = {name: value for name, value in made_by.items() if name != "kind"}
    return _sequential(told, worth, worth.save())


def fit_settings(made_by: Mapping[str, Any]) -> dict[str, Any]:
    """What `fit_value_to_go` is told by the parameters of a `sequential`."""
    found = {name: made_by[name] for name in _FIT if name in made_by}
    for name, value in found.items():
        if isinstance(value, str):
            raise BadInput("is not a number", field=f"--with {name}", value=value)
    return found


def beginning(made_by: Mapping[str, Any], version: int | None, state: bytes) -> Learner:
    """As it was before its first lesson, under the name that its snapshots have: of `state` it has only what
    was fitted beforehand. Raises Unavailable for a state that is not such a policy's."""
    policy = made_from(made_by)
    if state and isinstance(policy, Sequential):
        policy.foresee(state)
    return policy if version is None else Promoted(policy, version)


def _apprentice(told: Mapping[str, Any]) -> Apprentice:
    kind = told.get("rule")
    if kind is None:
        raise BadInput("needs the rule that it learns from, such as rule=greedy", field="--with", value=None)
    rule = _made(kind, {each: POLICIES[each] for each in RULES}, _of("rule", told), field="rule")
    learner = _made(told.get("learner", "squarecb"), POLICIES, _of("learner", told), field="learner")
    own = _own(told, ("rule", "learner"))
    return _bound(Apprentice, APPRENTICE, own, rule, learner)


def _sequential(told: Mapping[str, Any], worth: FutureWorth, kept: bytes) -> Sequential:
    base = _made(told.get("base", "squarecb"), POLICIES, _of("base", told), field="base")
    unknown = {name: value for name, value in _own(told, ("base",)).items() if name not in _FIT}
    if unknown:
        raise BadInput(f"does not fit {SEQUENTIAL}: unknown", field="--with", value=unknown)
    return Sequential(base, worth, kept=kept, load=ValueToGo.load)


def _of(part: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a part, under the names that it knows."""
    return {
        name.removeprefix(f"{part}."): value for name, value in told.items() if name.startswith(f"{part}.")
    }


def _own(told: Mapping[str, Any], parts: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name.partition(".")[0] not in parts}


def _made(
    kind: Any,
    known: Mapping[str, Callable[..., Learner]],
    told: Mapping[str, Any],
    *,
    field: str,
    kinds: list[str] | None = None,
) -> Learner:
    if kind not in known:
        raise NotFound("policy", kind, kinds or known, field=field)
    return _bound(known[kind], kind, told)


def _bound(make: Callable[..., Made], kind: str, told: Mapping[str, Any], *parts: Learner) -> Made:
    try:
        signature(make).bind(*parts, **told)
    except TypeError as error:
        raise BadInput(f"does not fit {kind}: {error}", field="--with", value=dict(told) or None) from None
    try:
        return make(*parts, **told)
    except (TypeError, ValueError) as error:
        raise BadInput(f"does not fit {kind}: {error}", field="--with", value=dict(told)) from None
