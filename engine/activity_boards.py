"""Leaderboards in memory, kept at what the store has."""

from __future__ import annotations

from threading import Lock
from typing import Any

from kernel.errors import NotFound
from planner.api import Activity, Due, Leaderboard, Standing, ranked
from storage.activities import ActivityStore


class Boards:
    """One a ranked metric and period, loaded when first asked for; then only what has changed is read."""

    def __init__(self, store: ActivityStore) -> None:
        self._store = store
        #: activity, period's key → times counted anew, newest change, board
        self._kept: dict[tuple[str, str], tuple[int, int, Leaderboard]] = {}
        self._lock = Lock()

    def lines(
        self, name: str, activity: Activity, key: str, first: int, count: int, user_id: str | None
    ) -> dict[str, Any]:
        """`{participants, lines}` from place `first` on, or around a user."""
        with self._lock:
            board = self._board(name, activity, key)
            if user_id is None:
                found = board.between(first, first + count - 1)
            else:
                found = board.around(user_id, count // 2)
            return {"participants": len(board), "lines": [_line(each) for each in found]}

    def rank(self, name: str, activity: Activity, key: str, user_id: str) -> int | None:
        with self._lock:
            found = self._board(name, activity, key).of(user_id)
        return None if found is None else found.rank

    def due(self, name: str, activity: Activity, key: str, reward: str) -> list[Due]:
        """Who has earned the reward by rank, as the board stands."""
        with self._lock:
            return ranked(activity.reward(reward), key, self._board(name, activity, key))

    def _board(self, name: str, activity: Activity, key: str) -> Leaderboard:
        if activity.ranking is None:
            raise NotFound("ranking", name, (), where=f"activity {name}")
        anew = self._store.one(name).anew
        kept = self._kept.get((name, key))
        if kept is None or kept[0] != anew:
            board = Leaderboard(activity.ranking.order)
            users, values, newest = self._store.board(name, activity.ranking.by, key)
            board.load(users, values)
        else:
            board = kept[2]
            users, values, newest = self._store.board(name, activity.ranking.by, key, after=kept[1])
            for user, value in zip(users, values, strict=True):
                board.put(user, value)
        self._kept[name, key] = (anew, newest, board)
        return board


def _line(each: Standing) -> dict[str, Any]:
    return {"rank": each.rank, "user_id": each.user, "value": each.value}
