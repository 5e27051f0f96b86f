"""Workers that run into caps and budgets in any interleaving: what is spent is what was shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.clock import FixedClock
from kernel.contact import Cap
from kernel.learning import Action
from realtime.decider import Decider, rooms_of
from realtime.decision_ids import DecisionIds
from realtime.moments import MOMENTS, DecisionRequest
from realtime.pacing import Budget, Pacing
from realtime.policy import Greedy
from realtime.records import decode_decision, decode_void, head
from storage.budgets_lmdb import LmdbBudgets
from storage.journal import FileJournalReader, FileJournalWriter
from storage.online_lmdb import LmdbOnlineStore

DAY = datetime(2026, 3, 2, tzinfo=UTC)
CLOCK = FixedClock(at=DAY + timedelta(hours=12))
CEILING, CAP = 5, 2
#: whoever can, sends a coupon by text message: it touches the user and uses the budget
ACTIONS = (
    Action(id="text", value=9.0, channel="sms", resource="coupons"),
    Action(id="coupon", value=5.0, resource="coupons"),
    Action(id="page", value=1.0),
)
#: a user, a key or none, and whether others come in between its spending and its admission
CALLS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([None, "k", "l"]), st.booleans()), max_size=24
)


class Interrupted(LmdbOnlineStore):
    """The store itself; before an admission, somebody else may have a turn."""

    between: Callable[[], None] = staticmethod(lambda: None)

    def admit(self, *said: Any, **more: Any) -> Any:
        self.between()
        return super().admit(*said, **more)


@settings(max_examples=40, deadline=None)
@given(calls=CALLS)
def test_what_is_spent_is_what_was_shown(calls: list[tuple[str, str | None, bool]]) -> None:
    with TemporaryDirectory() as folder:
        store = Interrupted(Path(folder) / "online", keep=10**12, hold=10**12, idle=10**12)
        store.ready()
        budget = Budget(
            name="coupons", at_most=CEILING, price=0.0, worth=1e-6, opens=DAY, closes=DAY + timedelta(days=1)
        )
        workers = [_worker(Path(folder), store, budget, f"w{each}") for each in range(3)]
        left, shown = list(enumerate(calls)), list[tuple[str, str]]()

        def turn() -> None:
            number, (user, key, interrupted) = left.pop(0)
            request = DecisionRequest(
                user_id=user, moment="guidance", actions=ACTIONS, idempotency_key=key, session_id="s"
            )

            def between() -> None:
                if left and interrupted:
                    turn()

            before, store.between = store.between, between
            answer = workers[number % 3][0].decide(request)
            store.between = before
            assert not answer.degraded
            shown.append((answer.decision_id, answer.action))

        while left:
            turn()
        spent = round(workers[0][1].standing()["coupons"].spent)
        uses = {decision_id for decision_id, action in shown if action in ("text", "coupon")}
        assert spent == len(uses) <= CEILING
        assert all(len(store.look(user, 0, key=None, session=None)[1].held()) <= CAP for user in "abc")
        kept = _answered(Path(folder))
        assert kept == {decision_id for decision_id, _ in shown}
        store.close()
        for *_, journal in workers:
            journal.close()


def _worker(
    folder: Path, store: LmdbOnlineStore, budget: Budget, name: str
) -> tuple[Decider, Pacing, FileJournalWriter]:
    pacing = Pacing([budget], store=LmdbBudgets(store), clock=CLOCK, refresh=timedelta(0))
    journal, greedy = FileJournalWriter(folder / "journal", name), Greedy(epsilon=0.0)
    decider = Decider(
        policy=lambda: greedy, store=store, journal=journal, ids=DecisionIds(b"0123456789abcdef"),
        clock=CLOCK, seed=1, prices=pacing.prices, moments=lambda: MOMENTS, spend=pacing.spend,
        give_back=pacing.give_back, rooms=rooms_of([Cap(name="c", channel="sms", at_most=CAP, within="7d")]),
    )  # fmt: skip
    return decider, pacing, journal


def _answered(folder: Path) -> set[str]:
    """Decisions in the journals that are not void."""
    reader, made, void = FileJournalReader(folder / "journal"), set[str](), set[str]()
    for writer in reader.writers():
        for _, record in reader.read(writer, (0, 0), 1 << 24):
            if head(record)[0] == b"D":
                made.add(decode_decision(record).decision_id)
            else:
                void.add(decode_void(record))
    return made - void
