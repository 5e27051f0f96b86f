from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event, func, select

from kernel.errors import NotFound, Stale, Unavailable
from kernel.learning import Action, Decision
from storage import database, decisions
from storage.decisions import KEPT_STATES, SqlDecisionLog
from storage.tables import metadata

AT = datetime(2017, 10, 16, 8, 0, 0, 123456, tzinfo=UTC)
OFFERED = (
    Action(id="tea", features={"hot": True, "size": 2, "brand": "a:b|c\n", "ph": 0.1}, value=3.0, cost=0.1),
    Action(id="coupon", value=2.0, cost=0.5, resource="coupons", channel="app"),
)
DECISION = Decision(
    decision_id="d1",
    user_id="42",
    moment="guidance",
    decided_at=AT,
    context={"city": "上海", "age": 31, "new": False, "x": 1 / 3, "gone": None},
    actions=("tea", "coupon"),
    propensities=(1 / 3, 2 / 3),
    action="coupon",
    propensity=2 / 3,
    policy="squarecb@7",
    prices={"coupons": 0.1},
    reason="because",
)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{tmp_path / 'log.db'}")
    event.listen(engine, "connect", database._durable_sqlite)
    metadata.create_all(engine)
    return engine


@pytest.fixture
def log(engine: Engine) -> SqlDecisionLog:
    return SqlDecisionLog(engine)


def keep(log: SqlDecisionLog, decision: Decision = DECISION, key: str | None = None) -> Decision:
    return log.append(decision, OFFERED, key=key, session_id="s")


def tell(
    log: SqlDecisionLog,
    outcome_id: str,
    value: float = 1.0,
    *,
    decision_id: str = "d1",
    in_window: bool = True,
) -> str:
    return log.add_outcome(
        outcome_id=outcome_id,
        decision_id=decision_id,
        name="order",
        value=value,
        occurred_at=AT,
        received_at=AT,
        in_window=in_window,
    )


def commit(log: SqlDecisionLog, *lessons: tuple[str, float, int], state: bytes = b"s") -> None:
    log.commit_learning(lessons, policy="squarecb", version="squarecb@8", state=state, at=AT)


def test_what_was_kept_is_found_unchanged(log: SqlDecisionLog) -> None:
    keep(log)
    assert log.find("d1") == (DECISION, OFFERED)
    assert log.find("other") is None


def test_a_second_process_finds_it(log: SqlDecisionLog, engine: Engine) -> None:
    keep(log, key="k")
    engine.dispose()
    again = create_engine(engine.url)
    event.listen(again, "connect", database._durable_sqlite)
    assert SqlDecisionLog(again).by_key("k") == DECISION


def test_a_key_used_before_answers_the_first_decision_and_writes_nothing(
    log: SqlDecisionLog, engine: Engine
) -> None:
    assert keep(log, key="k") is DECISION
    assert keep(log, replace(DECISION, decision_id="d2", action="tea"), key="k") == DECISION
    assert log.find("d2") is None
    assert count(engine) == 1


def count(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(decisions.decisions)).scalar_one())


def test_the_same_decision_twice_without_a_key_is_stale(log: SqlDecisionLog) -> None:
    keep(log)
    with pytest.raises(Stale, match="d1 is in the log already"):
        keep(log)


def test_of_many_at_once_under_one_key_one_stands(log: SqlDecisionLog, engine: Engine) -> None:
    answers: list[Decision] = []

    def one(number: int) -> Callable[[], None]:
        return lambda: answers.append(keep(log, replace(DECISION, decision_id=f"d{number}"), key="k"))

    threads = [threading.Thread(target=one(number)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert len({each.decision_id for each in answers}) == 1
    assert count(engine) == 1


def test_a_repeated_outcome_changes_nothing(log: SqlDecisionLog) -> None:
    keep(log)
    assert [tell(log, "o1", 5.0), tell(log, "o1", 7.0)] == ["counted", "repeated"]
    assert log.due(AT, 10) == [(DECISION, OFFERED, [("order", 5.0)])]


def test_an_outcome_out_of_its_window_is_kept_and_not_counted(log: SqlDecisionLog) -> None:
    keep(log)
    assert [tell(log, "o1", in_window=False), tell(log, "o1")] == ["late", "repeated"]
    assert log.due(AT, 10)[0][2] == []


def test_an_outcome_of_no_decision_is_not_found(log: SqlDecisionLog) -> None:
    with pytest.raises(NotFound, match="decision_id = 'd1': unknown decision"):
        tell(log, "o1")


def test_due_is_what_is_old_enough_and_not_learned_oldest_first(log: SqlDecisionLog) -> None:
    for minutes in (2, 0, 1, 3):
        keep(log, replace(DECISION, decision_id=f"d{minutes}", decided_at=AT + timedelta(minutes=minutes)))
    commit(log, ("d1", 1.0, 0))
    due = log.due(AT + timedelta(minutes=2), 10)
    assert [decision.decision_id for decision, *_ in due] == ["d0", "d2"]
    assert len(log.due(AT + timedelta(minutes=3), 1)) == 1


def test_learning_twice_is_stale_and_keeps_neither_mark_nor_state(log: SqlDecisionLog) -> None:
    keep(log)
    keep(log, replace(DECISION, decision_id="d2"))
    commit(log, ("d1", 1.0, 0), state=b"first")
    with pytest.raises(Stale, match="another learner"):
        commit(log, ("d2", 1.0, 0), ("d1", 1.0, 0), state=b"second")
    assert log.snapshot("squarecb") == b"first"
    assert [decision.decision_id for decision, *_ in log.due(AT, 10)] == ["d2"]


def test_an_outcome_between_reading_and_learning_is_not_lost(log: SqlDecisionLog) -> None:
    keep(log)
    tell(log, "o1")
    assert tell(log, "o2") == "counted"
    with pytest.raises(Stale, match="an outcome of decision d1 came"):
        commit(log, ("d1", 1.0, 1))
    assert len(log.due(AT, 10)[0][2]) == 2
    commit(log, ("d1", 2.0, 2))
    assert tell(log, "o3") == "late"


def test_the_newest_state_of_a_policy_and_not_all_of_them(log: SqlDecisionLog, engine: Engine) -> None:
    assert log.snapshot("squarecb") is None
    for number in range(KEPT_STATES + 5):
        keep(log, replace(DECISION, decision_id=f"d{number}"))
        commit(log, (f"d{number}", 0.0, 0), state=b"%d" % number)
    assert log.snapshot("squarecb") == b"%d" % (KEPT_STATES + 4)
    assert log.snapshot("other") is None
    with engine.connect() as connection:
        kept = connection.execute(select(func.count()).select_from(decisions.policy_states)).scalar_one()
    assert kept == KEPT_STATES


def test_a_database_that_does_not_answer_is_unavailable(log: SqlDecisionLog, engine: Engine) -> None:
    metadata.drop_all(engine)
    for call in (
        lambda: keep(log),
        lambda: log.find("d1"),
        lambda: log.by_key("k"),
        lambda: tell(log, "o"),
        lambda: log.due(AT, 1),
        lambda: commit(log, ("d1", 0.0, 0)),
        lambda: log.snapshot("squarecb"),
    ):
        with pytest.raises(Unavailable, match="the decision log does not answer"):
            call()
