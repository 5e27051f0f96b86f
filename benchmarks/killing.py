"""Deciders that are killed at random under load, and the count of what was lost, doubled or overrun."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kernel.clock import FixedClock
from realtime.learner import JournalLearner
from realtime.pacing import Budgets
from realtime.policy import Uniform
from realtime.ports import OnlineStore
from realtime.records import decode_decision, decode_outcome, decode_void, head
from storage.budgets_lmdb import LmdbBudgets
from storage.budgets_redis import RedisBudgets
from storage.journal import FileJournalReader
from storage.online_lmdb import LmdbOnlineStore
from storage.online_redis import RedisOnlineStore
from storage.snapshots import FileSnapshots

_ROOT = Path(__file__).parents[1]
#: touches a user may have, uses that the budget has, users, keys of each
CAP, CEILING, USERS, KEYS = 3, 400, 200, 100
#: decides and reports as fast as it can, and says what was acknowledged
WORKER = f"""
import random, sys
from datetime import timedelta
from pathlib import Path
from kernel.clock import SystemClock
from kernel.contact import Cap
from kernel.learning import Action
from realtime.decider import Decider, rooms_of
from realtime.decision_ids import DecisionIds
from realtime.moments import MOMENTS, DecisionRequest
from realtime.outcomes import OutcomeReport, Outcomes
from realtime.policy import Uniform
from realtime.rewards import by_moment
from benchmarks.killing import shared
from storage.journal import FileJournalWriter

folder, name, seed, where = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
chance, clock, ids = random.Random(seed), SystemClock(), DecisionIds(b"0123456789abcdef")
store, budgets = shared(folder, where)
journal = FileJournalWriter(folder / "journal", name)
actions = (Action(id="sms", value=1.0, channel="sms"), Action(id="coupon", value=1.0, resource="coupons"),
           Action(id="both", value=1.0, channel="sms", resource="coupons"), Action(id="page"))
policy, rules = Uniform(), by_moment([])
decider = Decider(
    policy=lambda: policy, store=store, journal=journal, ids=ids, clock=clock, seed=seed,
    prices=lambda: {{"coupons": 0.1}}, moments=lambda: MOMENTS,
    rooms=rooms_of([Cap(name="c", at_most={CAP}, within="7d")]),
    spend=lambda resource, amount, of: budgets.spend(resource + "@0", 1, of, {CEILING})[0] != "refused",
    give_back=lambda resource, amount, of: budgets.give_back(resource + "@0", 1, of),
)
outcomes = Outcomes(store=store, journal=journal, ids=ids, clock=clock, rules=lambda: rules)
print("up", flush=True)
number = 0
while True:
    number += 1
    user = f"u{{chance.randrange({USERS})}}"
    key = f"k{{chance.randrange({KEYS})}}" if chance.random() < 0.5 else None
    answer = decider.decide(
        DecisionRequest(user_id=user, moment="guidance", actions=actions, idempotency_key=key)
    )
    print("D", answer.decision_id, user, key, answer.action, answer.degraded, flush=True)
    if chance.random() < 0.5:
        outcome = f"{{name}}-{{seed}}-{{number}}"
        outcomes.observe(OutcomeReport(outcome_id=outcome, decision_id=answer.decision_id, name="buy",
                                       value=1.0, occurred_at=clock.now()))
        print("O", outcome, answer.decision_id, flush=True)
"""


@dataclass
class Count:
    """What a run showed; every `lost`, `doubled` and `over` must be 0."""

    kills: int = 0
    decisions: int = 0
    outcomes: int = 0
    lost_decisions: int = 0
    lost_outcomes: int = 0
    #: answers under one key of one user that differ
    doubled_answers: int = 0
    #: decisions that a learner met more than once, or not at all
    doubled_lessons: int = 0
    users_over_cap: int = 0
    over_budget: int = 0
    #: uses that are spent for decisions that were taken back
    unused: int = 0
    #: uses of the budget, and touches that are held
    spent: int = 0
    touches: int = 0
    #: answered with the default because something was down
    degraded: int = 0
    #: what was acknowledged
    said: list[list[str]] = field(default_factory=list, repr=False)


def shared(folder: Path, where: str) -> tuple[OnlineStore, Budgets]:
    """`lmdb`, or the address of a Redis."""
    if where == "lmdb":
        lmdb = LmdbOnlineStore(folder / "online", keep=10**12, hold=10**12, idle=10**12)
        lmdb.ready()
        return lmdb, LmdbBudgets(lmdb)
    redis = RedisOnlineStore(where, keep=10**12, hold=10**12, idle=10**12, patience=10.0)
    return redis, RedisBudgets(redis.client)


def run_killed(folder: Path, rounds: int, seed: int, *, workers: int = 2, where: str = "lmdb") -> Count:
    """So many rounds of some workers, each killed at a random instant while it works."""
    chance, count = random.Random(seed), Count()  # noqa: S311  a benchmark's
    for number in range(rounds):
        began = [_worker(folder, f"w{each}", seed + 1000 * number + each, where) for each in range(workers)]
        for each in began:
            assert each.stdout
            assert each.stdout.readline() == "up\n"
        for each in began:
            time.sleep(chance.uniform(0.01, 0.3))
            each.kill()
            assert each.stdout
            # what was torn off by the kill was not acknowledged
            lines = [
                line.split() for line in each.stdout.read().splitlines(keepends=True) if line.endswith("\n")
            ]
            count.said += lines
            each.wait()
            each.stdout.close()
            count.kills += 1
    _judge(folder, where, count)
    return count


def _worker(folder: Path, name: str, seed: int, where: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", WORKER, str(folder), name, str(seed), where]
    return subprocess.Popen(words, cwd=_ROOT, stdout=subprocess.PIPE, text=True)


def _judge(folder: Path, where: str, count: Count) -> None:
    decided, void, reported, used = Counter[str](), set[str](), Counter[str](), set[str]()
    reader = FileJournalReader(folder / "journal")
    for writer in reader.writers():
        after = (0, 0)
        while records := reader.read(writer, after):
            after = records[-1][0]
            for _, record in records:
                match head(record)[0]:
                    case b"D":
                        choice = decode_decision(record)
                        decided[choice.decision_id] += 1
                        if choice.actions[choice.chosen].resource:
                            used.add(choice.decision_id)
                    case b"V":
                        void.add(decode_void(record))
                    case b"O":
                        reported[decode_outcome(record).outcome_id] += 1
    touched, spent, answers = dict[str, set[str]](), set[str](), dict[tuple[str, str], str]()
    for line in count.said:
        if line[0] == "O":
            count.outcomes += 1
            count.lost_outcomes += reported[line[1]] == 0
            continue
        _, decision_id, user, key, action, degraded = line
        count.decisions += 1
        count.degraded += degraded == "True"
        count.lost_decisions += decided[decision_id] != 1 or decision_id in void
        if key != "None":
            count.doubled_answers += answers.setdefault((user, key), decision_id) != decision_id
        if action in ("sms", "both"):
            touched.setdefault(user, set()).add(decision_id)
        if action in ("coupon", "both"):
            spent.add(decision_id)
    store, budgets = shared(folder, where)
    now = time.time_ns() // 1000
    for each in range(USERS):
        held = store.look(f"u{each}", now, key=None, session=None)[1].held()
        count.touches += len(held)
        count.users_over_cap += len(held) > CAP or len(touched.get(f"u{each}", ())) > CAP
    ((total, _),) = budgets.totals(["coupons@0"], 0)
    store.close()
    count.spent = total
    count.unused = max(0, total - len(used - void))
    count.over_budget += total > CEILING or len(spent) > total
    count.doubled_lessons = _taught(folder, len(decided.keys() - void), sum(decided.values()) - len(decided))


def _taught(folder: Path, once: int, twice: int) -> int:
    """By how much what is learned differs from each decision once."""
    later = FixedClock(at=datetime.now(UTC) + timedelta(days=3))
    learner = JournalLearner(
        Uniform(),
        journal=FileJournalReader(folder / "journal"),
        snapshots=FileSnapshots(folder / "s"),
        clock=later,
    )
    while learner.step():
        pass
    return abs(learner.learned.decisions - once) + twice
