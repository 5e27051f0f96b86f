from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kernel.clock import FixedClock
from kernel.errors import Unavailable
from kernel.learning import Action, Decision
from realtime.choosing import NO_POLICY
from realtime.join import Join
from realtime.learner import Follower, JournalLearner, Learned
from realtime.records import (
    decode_decision,
    decode_outcome,
    encode_decision,
    encode_outcome,
    head,
    micros,
    moment_of,
)
from realtime.rewards import ELSEWHERE, Outcome, RewardRule, by_moment
from realtime.vw import SquareCB
from storage.journal import FileJournalReader, FileJournalWriter
from storage.snapshots import FileSnapshots

AT = datetime(2017, 10, 16, 8, tzinfo=UTC)
RULE = RewardRule(name="r", within="30m", grace="5m")
ACTIONS = (Action(id="coupon", value=3.0, cost=0.5), Action(id="banner", features={"big": True}))


def after(**time: float) -> datetime:
    return AT + timedelta(**time)


#: instant at which a decision made at AT can be learned: its reward is final, its records are in
LEARNED = after(minutes=35, seconds=1)


@dataclass
class Shop:
    """Journals, snapshots and a learner over them."""

    folder: Path

    def __post_init__(self) -> None:
        self.writers: dict[str, FileJournalWriter] = {}
        self.snapshots = FileSnapshots(self.folder / "snapshots")

    def write(self, record: bytes, writer: str = "w0") -> None:
        if writer not in self.writers:
            self.writers[writer] = FileJournalWriter(self.folder / "journal", writer)
        self.writers[writer].append(record)

    def choose(
        self, number: int, at: datetime = AT, *, chosen: int = 0, writer: str = "w0", **said: Any
    ) -> None:
        decision = Decision(
            **{
                "decision_id": f"d{number}",
                "user_id": f"u{number}",
                "moment": "guidance",
                "decided_at": at,
                "context": {"n": number % 3},
                "actions": tuple(each.id for each in ACTIONS),
                "propensities": (0.75, 0.25),
                "action": ACTIONS[chosen].id,
                "propensity": (0.75, 0.25)[chosen],
                "policy": "squarecb@0",
                "prices": {},
                "reason": "",
                **said,
            }
        )
        self.write(encode_decision(decision, ACTIONS), writer)

    def report(
        self, number: int, at: datetime, *, value: float = 4.0, outcome: str = "", writer: str = "w0",
        received: datetime | None = None,
    ) -> None:  # fmt: skip
        when, seen = micros(at, "at"), micros(received or at, "at")
        made = Outcome(f"d{number}", outcome or f"o{number}", "order", value, when, seen)
        self.write(encode_outcome(made), writer)

    def learner(
        self, at: datetime, rules: Mapping[str, RewardRule] | None = None, policy: SquareCB | None = None
    ) -> JournalLearner:
        return JournalLearner(
            policy or SquareCB(bits=12),
            journal=FileJournalReader(self.folder / "journal"),
            snapshots=self.snapshots,
            clock=FixedClock(at=at),
            rules=rules or {ELSEWHERE: RULE},
        )

    def learned(self, at: datetime, *, publish: bool = True, limit: int = 10_000, **said: Any) -> Learned:
        learner = self.learner(at, **said)
        while learner.step(limit):
            pass
        if publish:
            learner.publish()
        return learner.learned

    def state(self) -> bytes:
        policy = SquareCB(bits=12)
        assert Follower(policy, self.snapshots).refresh()
        return policy.save()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def told(learned: Learned) -> tuple[int, int, int, int, float]:
    return (
        learned.decisions,
        learned.lessons,
        learned.outcomes,
        learned.passed_over,
        learned.reward,
    )


def test_nothing_is_learned_before_its_reward_is_final(shop: Shop) -> None:
    shop.choose(1)
    shop.report(1, after(minutes=1))
    assert told(shop.learned(LEARNED - timedelta(microseconds=1))) == (0, 0, 0, 0, 0.0)
    assert told(shop.learned(LEARNED)) == (1, 1, 1, 0, 3.5)
    assert told(shop.learned(after(days=1))) == (1, 1, 1, 0, 3.5)


def test_late_repeated_unknown_and_disordered_outcomes(shop: Shop) -> None:
    shop.report(1, after(minutes=2), outcome="early", writer="other")  # in a journal that is read first
    shop.choose(1)
    shop.choose(2, chosen=1)
    shop.report(1, after(minutes=3), outcome="early", value=99.0, writer="third")  # repeated elsewhere
    shop.report(2, after(minutes=30), received=after(minutes=35))  # as late as may be
    shop.report(1, after(minutes=30, microseconds=1), outcome="late")  # happened too late
    shop.report(1, after(minutes=9), outcome="late too", received=after(minutes=36))
    shop.report(7, after(minutes=1))
    assert told(shop.learned(LEARNED)) == (2, 2, 2, 2, 3.5 + 4.0)


def test_what_no_policy_chose_is_passed_over(shop: Shop) -> None:
    shop.choose(1, policy=NO_POLICY)
    learned = shop.learned(LEARNED)
    assert (learned.decisions, learned.lessons) == (1, 0)


def test_many_writers_are_one_history(shop: Shop) -> None:
    fill(shop, range(60))
    whole = told(shop.learned(after(hours=2)))
    assert whole[:3] == (60, 60, 20)
    assert whole[4] == pytest.approx(20 * 4.0 - 30 * 0.5)


def fill(shop: Shop, numbers: Iterable[int]) -> None:
    for number in numbers:
        shop.choose(number, after(seconds=number), chosen=number % 2, writer=f"w{number % 3}")
        if number % 3 == 0:
            shop.report(number, after(seconds=number + 90), writer=f"w{number % 2}")


def test_however_it_is_stopped_and_started_it_ends_bit_for_bit_alike(shop: Shop, tmp_path: Path) -> None:
    fill(shop, range(60))
    at_once = Shop(tmp_path / "at once")
    fill(at_once, range(60))
    whole = at_once.learned(after(hours=2))
    for turn in range(40):  # each turn dies without publishing, then one that publishes a little
        shop.learner(after(hours=2)).step(7)
        learner = shop.learner(after(minutes=35, seconds=2 * turn))
        learner.step(3 if turn % 2 else 10_000)
        if turn % 3:
            learner.publish()
    assert told(shop.learned(after(hours=2))) == pytest.approx(told(whole))
    assert shop.state() == at_once.state()


def test_an_outcome_before_a_crash_reaches_a_decision_after_it(shop: Shop) -> None:
    shop.choose(1, AT - timedelta(minutes=20))
    shop.report(2, after(minutes=1), writer="w0")
    shop.choose(2, AT, writer="w1")
    for at in (after(minutes=5), after(minutes=16), after(minutes=30)):
        shop.learned(at)
    assert told(shop.learned(LEARNED)) == (2, 2, 1, 0, 4.0 - 0.5 - 0.5)


def test_nor_is_one_lost_whose_record_stands_before_an_older_one(shop: Shop) -> None:
    """Threads of one worker append a little out of order; the crash falls between the two."""
    shop.report(2, after(seconds=60), writer="w0")
    shop.choose(1, after(seconds=50), writer="w0")
    shop.choose(2, after(seconds=59), writer="w1")
    assert shop.learned(LEARNED + timedelta(seconds=55)).decisions == 1
    assert told(shop.learned(LEARNED + timedelta(seconds=59))) == (2, 2, 1, 0, 4.0 - 0.5 - 0.5)


def test_each_moment_by_its_own_rule(shop: Shop) -> None:
    quick = RewardRule(name="quick", moments=("guidance",), within="1m", grace="1m", default=7.0)
    slow = RewardRule(name="slow", within="1h", grace="5m")
    rules = by_moment([quick, slow])
    shop.choose(1, moment="conversion")
    shop.choose(2)
    assert told(shop.learned(after(minutes=10), rules=rules)) == (1, 1, 0, 0, 6.5)
    assert told(shop.learned(after(hours=2), rules=rules)) == (2, 2, 0, 0, 6.0)


def test_a_moment_that_changes_its_rule_is_neither_lost_nor_learned_twice(shop: Shop) -> None:
    quick = RewardRule(name="quick", moments=("guidance",), within="1m", grace="1m")
    for number in range(20):
        shop.choose(number, after(minutes=number), moment=("guidance", "conversion")[number % 2])
    assert shop.learned(after(minutes=10), rules=by_moment([quick, RULE])).decisions == 4
    assert shop.learned(after(minutes=11), rules=by_moment([RULE])).decisions == 4
    both = RewardRule(name="both", moments=("guidance", "conversion"), within="1m", grace="1m")
    assert shop.learned(after(minutes=12), rules=by_moment([both, RULE])).decisions == 4 + 5 + 1
    assert shop.learned(after(days=1), rules=by_moment([quick])).decisions == 10 + 5
    assert shop.learned(after(days=2), rules=by_moment([quick])).decisions == 20
    assert shop.learned(after(days=3), rules=by_moment([])).decisions == 20


def test_memory_holds_only_the_outcomes_of_open_windows(shop: Shop) -> None:
    for number in range(100):
        shop.choose(number, after(minutes=number), context={"long": "x" * 100_000})
        shop.report(number, after(minutes=number + 1))
        shop.report(1000 + number, after(minutes=number))  # of a decision that nobody knows
    join = Join(FileJournalReader(shop.folder / "journal"), rules={ELSEWHERE: RULE})
    most = 0
    for minute in range(0, 200, 5):
        now = micros(after(minutes=minute), "at")
        assert all(joined.final <= now for joined in join.final(now, 1000))
        join.settle(now)
        most = max(most, join.waiting)
    assert most < 130
    assert join.waiting == 0


def test_followers_take_over_what_is_published(shop: Shop) -> None:
    policy = SquareCB(bits=12)
    follower = Follower(policy, shop.snapshots)
    assert not follower.refresh()
    fill(shop, range(30))
    shop.learned(after(hours=2))
    assert follower.refresh()
    assert not follower.refresh()
    assert policy.name == "squarecb@30"
    assert follower.learned is not None
    assert follower.learned.lessons == 30


def test_a_damaged_snapshot_is_refused_and_the_policy_stays(shop: Shop) -> None:
    fill(shop, range(3))
    shop.learned(after(hours=2))
    (path,) = (shop.folder / "snapshots").iterdir()
    raw = path.read_bytes()
    path.write_bytes(raw[:-9] + b"x" + raw[-8:])
    policy = SquareCB(bits=12)
    with pytest.raises(Unavailable, match="damaged"):
        Follower(policy, shop.snapshots).refresh()
    with pytest.raises(Unavailable, match="damaged"):
        shop.learner(after(hours=2))
    assert policy.name == "squarecb@0"


def test_another_policy_s_parameters_are_refused(shop: Shop) -> None:
    shop.choose(1)
    shop.learned(LEARNED)
    with pytest.raises(Unavailable, match="other parameters"):
        shop.learner(LEARNED, policy=SquareCB(bits=13))


@pytest.mark.parametrize("text", ["d1", "é🍵", "a\nb\0|:", "x" * 200])
def test_records_come_back_as_they_went(text: str) -> None:
    decision = Decision(
        decision_id=text,
        user_id=text,
        moment=text,
        decided_at=AT,
        context={text: text, "n": 1, "x": 0.1, "t": True, "none": None},
        actions=("a", text),
        propensities=(0.1, 0.9),
        action=text,
        propensity=0.9,
        policy="squarecb@7",
        prices={"coupon": 1.25},
        reason=text,
        degraded=True,
    )
    actions = (Action(id="a"), Action(id=text, features={text: text, "n": 2}, cost=1.0, resource="coupon"))
    record = encode_decision(decision, actions, key="k", session_id="s", more={"stage": 2})
    choice = decode_decision(record)
    assert head(record) == (b"D", micros(AT, "at"))
    assert moment_of(record) == text
    assert choice.decision == decision
    assert tuple(choice.actions) == actions
    assert (choice.rest["stage"], choice.rest["session_id"], choice.rest["idempotency_key"]) == (2, "s", "k")
    outcome = Outcome(text, text, text, 0.1, micros(AT, "at"), micros(after(days=1), "at"))
    assert decode_outcome(encode_outcome(outcome)) == outcome
    assert head(encode_outcome(outcome)) == (b"O", outcome.received)
