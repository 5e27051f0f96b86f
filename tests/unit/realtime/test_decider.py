from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kernel.caps import Room
from kernel.clock import FixedClock, micros
from kernel.contact import Cap, MessageClass
from kernel.errors import BadInput, NotFound, Unavailable
from kernel.learning import Action, Decision
from realtime.choosing import NO_POLICY
from realtime.decider import Answer, Decider, rooms_of
from realtime.decision_ids import DecisionIds
from realtime.moments import MOMENTS, DecisionRequest, Moment
from realtime.policy import Greedy, Uniform
from realtime.records import Choice, decode_decision, decode_void, head
from storage.journal import FileJournalReader, FileJournalWriter
from storage.online_lmdb import LmdbOnlineStore

CLOCK = FixedClock(at=datetime(2017, 10, 16, 8, tzinfo=UTC))
NOW = micros(CLOCK.at)
HOUR = 3_600_000_000
COUPON = Action(id="coupon", value=3.0, cost=0.5, resource="coupons")
BANNER = Action(id="banner", value=0.4)
POPUP = Action(id="popup", value=1.0, cost=0.2)
#: two that touch the user
SMS, PUSH = Action(id="sms", value=2.0, channel="sms"), Action(id="push", value=2.0, channel="push")
PRICES = {"coupons": 1.9}


class Broken(Uniform):
    """A policy that answers what real learners have been seen to answer."""

    def __init__(self, answer: Sequence[float] | Exception) -> None:
        object.__setattr__(self, "answer", answer)

    def distribution(self, context: Any, actions: Any) -> tuple[float, ...]:
        answer = self.answer  # type: ignore[attr-defined]  # frozen: set above
        if isinstance(answer, Exception):
            raise answer
        return tuple(answer)


class Desk:
    """Store and journal of one worker."""

    def __init__(self, folder: Path) -> None:
        self.store = LmdbOnlineStore(folder / "online", keep=24 * HOUR, hold=24 * HOUR, idle=HOUR)
        self.journal = FileJournalWriter(folder / "journal", "w0")
        self._reader = FileJournalReader(folder / "journal")
        self.ids = DecisionIds(b"0123456789abcdef")

    def records(self) -> list[bytes]:
        return [record for _, record in self._reader.read("w0", (0, 0))]

    def choices(self) -> list[Choice]:
        return [decode_decision(each) for each in self.records() if head(each)[0] == b"D"]

    def void(self) -> list[str]:
        return [decode_void(each) for each in self.records() if head(each)[0] == b"V"]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()
    desk.journal.close()


def answer_of(desk: Desk, *actions: Action, **changes: Any) -> Answer:
    request = {"user_id": "42", "moment": "exit-intercept", "actions": actions or (COUPON, BANNER, POPUP)}
    settings: dict[str, Any] = {
        "policy": Uniform, "prices": lambda: PRICES, "clock": CLOCK, "seed": 1, "moments": lambda: MOMENTS,
    }  # fmt: skip
    others = {"allowed", "rooms", "spend", "give_back", "forgotten"}
    for name, value in changes.items():
        (settings if name in {*settings, *others} else request)[name] = value
    decider = Decider(store=desk.store, journal=desk.journal, ids=desk.ids, **settings)
    return decider.decide(DecisionRequest.model_validate(request))


def ask(desk: Desk, *actions: Action, **changes: Any) -> Decision:
    """The decision as it is in the journal, which is what was answered."""
    answer = answer_of(desk, *actions, **changes)
    decision = next(each for each in desk.choices() if each.decision_id == answer.decision_id).decision
    assert answer == Answer(
        decision.decision_id, decision.moment, decision.action, decision.propensity, decision.policy,
        micros(decision.decided_at), decision.reason, decision.degraded,
    )  # fmt: skip
    return decision


def test_it_is_in_the_log_before_it_is_answered(desk: Desk) -> None:
    decision = ask(desk, context={"basket": 31.5})
    assert list(desk.choices()[-1].actions) == [COUPON, BANNER, POPUP]
    assert decision.context == {"basket": 31.5}
    assert decision.decided_at == CLOCK.at
    assert decision.actions == ("coupon", "banner", "popup")
    assert decision.propensities == pytest.approx((1 / 3,) * 3)
    assert decision.propensity == decision.propensities[decision.actions.index(decision.action)]
    assert (decision.policy, decision.prices, decision.degraded) == ("uniform", {"coupons": 1.9}, False)


def test_an_action_not_worth_its_price_is_dropped_and_the_reason_says_so(desk: Desk) -> None:
    decision = ask(desk, prices=lambda: {"coupons": 2.5})
    assert decision.actions == ("banner", "popup")
    assert "coupon: value 3.00 does not exceed cost 0.50 + price 2.50" in decision.reason
    assert ask(desk, prices=lambda: {"coupons": 2.4999}).actions == ("coupon", "banner", "popup")


def test_a_price_below_zero_pays_for_a_floor(desk: Desk) -> None:
    weak = COUPON.model_copy(update={"value": 0.1})
    assert ask(desk, weak, prices=lambda: {"coupons": -0.5}).action == "coupon"


@pytest.mark.parametrize("prices", [{}, {"coupons": math.nan}, {"coupons": math.inf}])
def test_a_resource_without_a_price_is_in_no_budget(desk: Desk, prices: dict[str, float]) -> None:
    decision = ask(desk, prices=lambda: prices)
    assert decision.actions == ("banner", "popup")
    assert "coupon: resource 'coupons' has no price today" in decision.reason


def test_what_is_free_and_claims_nothing_may_be_tried(desk: Desk) -> None:
    assert ask(desk, Action(id="x"), Action(id="y"), Action(id="z", value=-0.1)).actions == ("x", "y")


def test_the_policy_sees_the_price(desk: Desk) -> None:
    greedy = Greedy(epsilon=0.0)
    assert ask(desk, policy=lambda: greedy, prices=lambda: {"coupons": 0.0}).action == "coupon"
    assert ask(desk, policy=lambda: greedy, prices=lambda: {"coupons": 1.9}).action == "popup"


@pytest.mark.parametrize("moment", list(MOMENTS))
def test_nothing_left_answers_the_default_of_the_moment(desk: Desk, moment: str) -> None:
    decision = ask(desk, COUPON, prices=lambda: {"coupons": 9.0}, moment=moment)
    assert decision.action == MOMENTS[moment].default.id
    assert (decision.propensity, decision.propensities, decision.policy) == (1.0, (1.0,), NO_POLICY)
    assert decision.reason.startswith("nothing is left: coupon: value")
    assert not decision.degraded
    assert list(desk.choices()[-1].actions) == [MOMENTS[moment].default]


def test_what_is_forbidden_is_dropped(desk: Desk) -> None:
    decision = ask(
        desk, allowed=lambda user, action: f"{user} has opted out" if action.id == "popup" else None
    )
    assert decision.actions == ("coupon", "banner")
    assert "popup: 42 has opted out" in decision.reason


def test_consent_that_cannot_be_checked_fails_closed(desk: Desk) -> None:
    def down(_user: str, action: Action) -> str | None:
        if action.id == "popup":
            raise Unavailable("the ledger does not answer")
        return None

    decision = ask(desk, allowed=down)
    assert (decision.action, decision.degraded) == ("let_go", True)
    assert "the ledger does not answer" in decision.reason


@pytest.mark.parametrize(
    "answer",
    [
        (math.nan, 0.5, 0.5),
        (1.0,),
        (-0.5, 1.0, 0.5),
        (0.5, 0.5, 0.5),
        (math.inf, 0.0, 0.0),
        Unavailable("no learner"),
        ZeroDivisionError("oops"),
    ],
)
def test_a_policy_that_fails_degrades_to_the_default(desk: Desk, answer: Any) -> None:
    decision = ask(desk, policy=lambda: Broken(answer))
    assert (decision.action, decision.degraded, decision.propensity) == ("let_go", True, 1.0)
    assert "policy" in decision.reason


def test_the_moment_s_own_actions_are_taken_when_none_are_given(desk: Desk) -> None:
    moments = {"guidance": Moment(default=Action(id="usual"), actions=(BANNER,))}
    assert ask(desk, moment="guidance", actions=None, moments=lambda: moments).action == "banner"


@pytest.mark.parametrize("actions", [None, ()])
def test_no_action_at_all_is_bad_input(desk: Desk, actions: Any) -> None:
    with pytest.raises(BadInput, match="actions"):
        ask(desk, actions=actions)


def test_an_unknown_moment_is_not_found(desk: Desk) -> None:
    with pytest.raises(NotFound, match=r"moment = 'guidence'.*did you mean 'guidance'"):
        ask(desk, moment="guidence")


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": ""},
        {"user_id": "a\nb"},
        {"user_id": "\x00"},
        {"user_id": True},
        {"context": {"x": math.nan}},
        {"context": {"x": math.inf}},
        {"context": {"x": [1]}},
        {"actions": (BANNER, BANNER)},
        {"actions": ({"id": "x", "cost": -1},)},
        {"surprise": 1},
    ],
)
def test_a_bad_request_is_refused_at_birth(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DecisionRequest.model_validate(
            {"user_id": "42", "moment": "guidance", "actions": (BANNER,), **change}
        )


def test_a_number_is_a_user_too() -> None:
    assert DecisionRequest(user_id=42, moment="guidance").user_id == "42"  # type: ignore[arg-type]


def test_a_default_that_costs_is_no_default() -> None:
    with pytest.raises(ValidationError, match="must have no cost"):
        Moment(default=COUPON)


def test_a_journal_that_is_down_degrades_to_the_default(desk: Desk) -> None:
    desk.journal.close()
    for key in (None, "k"):
        answer = answer_of(desk, idempotency_key=key)
        assert (answer.action, answer.degraded) == ("let_go", True)
        assert "the decision log is down" in answer.reason
        assert desk.ids.opened(answer.decision_id) is None


def test_a_store_that_is_down_degrades_to_the_default_which_is_logged(desk: Desk) -> None:
    desk.store.close()
    decision = ask(desk, idempotency_key="k")
    assert (decision.action, decision.degraded, decision.policy) == ("let_go", True, NO_POLICY)
    assert "what is shared cannot be asked" in decision.reason


def test_a_store_that_goes_down_before_admission_shows_nothing(desk: Desk) -> None:
    def prices() -> dict[str, float]:
        desk.store.close()
        return PRICES

    answer = answer_of(desk, idempotency_key="k", prices=prices)
    assert (answer.action, answer.degraded) == ("let_go", True)
    assert desk.choices()[-1].decision_id == answer.decision_id


def test_the_same_key_gets_the_same_answer_whatever_has_changed(desk: Desk) -> None:
    first = answer_of(desk, idempotency_key="k")
    again = [answer_of(desk, idempotency_key="k", prices=dict, seed=seed) for seed in range(9)]
    assert again == [first] * 9
    assert len(desk.choices()) == 1
    default = answer_of(desk, COUPON, prices=dict, idempotency_key="d")
    assert answer_of(desk, idempotency_key="d") == default


def test_a_key_is_its_user_s_and_serves_one_moment(desk: Desk) -> None:
    first = answer_of(desk, idempotency_key="k")
    assert answer_of(desk, idempotency_key="k", user_id="43").decision_id != first.decision_id
    with pytest.raises(BadInput, match="idempotency_key = 'k': was used before"):
        answer_of(desk, idempotency_key="k", moment="guidance")


def test_of_two_at_once_under_one_key_the_first_stands_and_the_other_is_void(desk: Desk) -> None:
    first: list[Answer] = []

    def prices() -> dict[str, float]:
        if not first:
            first.append(answer_of(desk, idempotency_key="k", prices=lambda: PRICES))
        return PRICES

    assert answer_of(desk, idempotency_key="k", prices=prices) == first[0]
    made = [each.decision_id for each in desk.choices()]
    assert desk.void() == [each for each in made if each != first[0].decision_id]
    assert len(made) == 2


def test_a_cap_drops_what_it_counts_and_the_reason_says_so(desk: Desk) -> None:
    rooms = rooms_of([Cap(name="sms_week", channel="sms", at_most=1, within="7d")])
    assert ask(desk, SMS, rooms=rooms).action == "sms"
    decision = ask(desk, SMS, BANNER, rooms=rooms)
    assert decision.action == "banner"
    assert "sms: cap sms_week of 1 is reached" in decision.reason
    later = FixedClock(at=CLOCK.at + timedelta(days=7))
    assert ask(desk, SMS, rooms=rooms, clock=later).action == "sms"
    assert ask(desk, SMS, rooms=rooms, user_id="43").action == "sms"
    none = rooms_of([Cap(name="none", at_most=0, within="1d")])
    assert "cap none allows none" in ask(desk, SMS, rooms=none, user_id="44").reason


def test_caps_count_marketing_and_their_channel() -> None:
    caps = [
        Cap(name="all", at_most=3, within="1d"),
        Cap(name="sms", channel="sms", at_most=1, within="1h"),
        Cap(name="service", at_most=1, within="1h", classes=(MessageClass.SERVICE,)),
    ]
    rooms = rooms_of(caps)
    assert rooms("42", "sms", NOW) == (Room("all", None, 24 * HOUR, 3), Room("sms", "sms", HOUR, 1))
    assert rooms("42", "push", NOW) == (Room("all", None, 24 * HOUR, 3),)


def test_when_another_was_first_the_action_is_dropped_and_another_drawn(desk: Desk) -> None:
    rooms = rooms_of([Cap(name="sms_week", channel="sms", at_most=1, within="7d")])
    told: list[int] = []

    def prices() -> dict[str, float]:
        told.append(1)
        if len(told) == 1:  # between the look and the admission, another worker shows her an sms
            desk.store.admit("42", NOW, key=None, answer=b"", session=None, channel="sms", rooms=())
        return PRICES

    free = Action(id="free")
    sms = Greedy(epsilon=0.0)
    answer = answer_of(desk, SMS, free, rooms=rooms, prices=prices, policy=lambda: sms)
    assert answer.action == "free"
    first, second = desk.choices()
    assert (first.decision.action, second.decision.action) == ("sms", "free")
    assert second.decision.actions == ("free",)
    assert desk.void() == [first.decision_id]
    assert "sms: channel sms has no room" in answer.reason


def test_a_budget_that_is_spent_drops_what_uses_it(desk: Desk) -> None:
    spent: list[tuple[str, float, str]] = []

    def spend(*said: Any) -> bool:
        spent.append(said)
        return len(spent) == 1

    greedy = Greedy(epsilon=0.0)
    free = {"policy": lambda: greedy, "prices": lambda: {"coupons": 0.0}, "spend": spend}
    first = answer_of(desk, **free)
    second = answer_of(desk, **free)
    assert (first.action, second.action) == ("coupon", "popup")
    assert spent[0] == ("coupons", 1.0, first.decision_id)
    assert desk.void() == [spent[1][2]]
    assert "coupon: resource coupons has no room" in second.reason


def test_a_budget_that_cannot_be_asked_spends_nothing(desk: Desk) -> None:
    def down(*_: Any) -> bool:
        raise Unavailable("no budgets")

    greedy, back = Greedy(epsilon=0.0), list[tuple[Any, ...]]()
    answer = answer_of(
        desk, policy=lambda: greedy, prices=lambda: {"coupons": 0.0}, spend=down,
        give_back=lambda *said: back.append(said),
    )  # fmt: skip
    assert (answer.action, answer.degraded) == ("let_go", True)
    tried, logged = desk.choices()
    assert (desk.void(), logged.decision_id) == ([tried.decision_id], answer.decision_id)
    # it may have been spent all the same
    assert back == [("coupons", 1.0, tried.decision_id)]


@pytest.mark.parametrize("key", [None, "k"])
def test_what_may_stand_under_its_key_is_not_given_back(desk: Desk, key: str | None) -> None:
    """A store that goes down in the admission may have granted it."""
    back = list[tuple[Any, ...]]()

    def spend(*_: Any) -> bool:
        desk.store.close()
        return True

    sms = Action(id="sms", value=2.0, channel="sms", resource="coupons")
    greedy = Greedy(epsilon=0.0)
    answer = answer_of(
        desk, sms, policy=lambda: greedy, spend=spend, prices=lambda: {"coupons": 0.0}, idempotency_key=key,
        give_back=lambda *said: back.append(said),
    )  # fmt: skip
    assert (answer.action, answer.degraded) == ("let_go", True)
    tried = desk.choices()[0].decision_id
    assert (desk.void(), back) == (([tried], [("coupons", 1.0, tried)]) if key is None else ([], []))


def test_sessions_count_and_fresh_events_are_in_the_context(desk: Desk) -> None:
    for number, ago in enumerate((1, 599, 600, 3600)):
        desk.store.note("42", f"e{number}", "view", NOW - ago * 1_000_000)
    desk.store.note("42", "later", "view", NOW + 1)
    for step in range(2):
        context = ask(desk, session_id="s", context={"event.view.24h": 99}).context
        assert context == {
            "event.view.10m": 2, "event.view.24h": 99, "session.stage": "exit-intercept", "session.step": step
        }  # fmt: skip
    assert ask(desk).context == {"event.view.10m": 2, "event.view.24h": 4}
    assert ask(desk, session_id="s", user_id="43").context["session.step"] == 0


def test_who_was_forgotten_gets_the_default_and_is_nowhere(desk: Desk) -> None:
    answer = answer_of(desk, forgotten=lambda user: user == "42", idempotency_key="k", session_id="s")
    assert (answer.action, answer.degraded, answer.policy) == ("let_go", False, NO_POLICY)
    assert "forgotten" in answer.reason
    assert desk.records() == []
    answer_under_key, touched, step, recent = desk.store.look("42", NOW, key="k", session="s")
    assert (answer_under_key, touched.held(), step, recent) == (None, (), 0, {})
    assert desk.ids.opened(answer.decision_id) is None


def test_the_draw_belongs_to_the_seed_and_the_decision(desk: Desk) -> None:
    from realtime.policy import draw

    for seed in (1, 2):
        for _ in range(20):
            decision = ask(desk, seed=seed)
            place = draw(decision.propensities, seed, decision.decision_id)
            assert decision.action == decision.actions[place]


def test_odd_text_goes_into_the_journal_as_it_is(desk: Desk) -> None:
    odd = {"\ud800": "a|b\n", "": "\ud800", "big": 10**30}
    assert ask(desk, context=odd, user_id="\U0001f600").context == odd
