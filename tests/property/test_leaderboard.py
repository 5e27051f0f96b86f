"""The board against sorting everybody anew."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from planner.api import Leaderboard

USERS = st.sampled_from([f"u{number}" for number in range(12)])
STEPS = st.lists(st.tuples(USERS, st.one_of(st.none(), st.integers(-2, 4))), max_size=60)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.lists(st.integers(-2, 4), max_size=20), st.sampled_from(["most", "least"]))
def test_it_is_as_if_sorted_anew(steps: list[tuple[str, int | None]], loaded: list[int], order: str) -> None:
    board, sign = Leaderboard(order), -1 if order == "most" else 1
    users = [f"l{number}" for number in range(len(loaded))]
    board.load(users, loaded)
    #: user → (signed value, when she came to it)
    known = {user: (sign * value, at) for at, (user, value) in enumerate(zip(users, loaded, strict=True))}
    for at, (user, value) in enumerate(steps, start=len(loaded)):
        if value is None:
            board.drop(user)
            known.pop(user, None)
        else:
            board.put(user, value)
            if user not in known or known[user][0] != sign * value:
                known[user] = (sign * value, at)
    wanted = sorted(known, key=lambda user: known[user])
    found = board.between(1, len(board))
    assert [each.user for each in found] == wanted
    ranks = {user: 1 + sum(other[0] < known[user][0] for other in known.values()) for user in known}
    assert {each.user: each.rank for each in found} == ranks
    for user in known:
        mine = board.of(user)
        assert mine is not None
        assert (mine.rank, mine.value) == (ranks[user], sign * known[user][0])
        near = [each.user for each in board.around(user, 2)]
        place = wanted.index(user)
        assert near == wanted[max(0, place - 2) : place + 3]
    assert {each.user for each in board.ranked(2, 4)} == {user for user in known if 2 <= ranks[user] <= 4}
    assert board.of("nobody") is None
