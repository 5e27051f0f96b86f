"""Which rewards are due, to whom; and what happens when something runs out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from planner.activities import Activity, Contingency, Reward
from planner.leaderboard import Leaderboard


@dataclass(frozen=True, kw_only=True, slots=True)
class Due:
    """A reward that a participant has earned. The same one has the same key, however often it is found."""

    reward: str
    user: str
    #: which day, week or month a rank was held in; `all` otherwise
    period: str
    #: rank or metric by which it was earned, for people
    because: str


def reached(activity: Activity, user: str, values: Mapping[str, float | None]) -> list[Due]:
    """The rewards for reaching something that these values earn."""
    found = []
    for reward in activity.rewards:
        if not reward.reach:
            continue
        have = [(name, values.get(name), least) for name, least in sorted(reward.reach.items())]
        if all(value is not None and value >= least for name, value, least in have):
            because = ", ".join(f"{name} {value:g} of {least:g}" for name, value, least in have)
            found.append(Due(reward=reward.name, user=user, period="all", because=because))
    return found


def ranked(reward: Reward, period: str, board: Leaderboard) -> list[Due]:
    """The rewards for ranks on a board that moves no more. Equals at the last rank all get it."""
    if reward.rank is None:
        return []
    return [
        Due(reward=reward.name, user=each.user, period=period, because=f"rank {each.rank}, {each.value:g}")
        for each in board.ranked(*reward.rank)
    ]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """How far an activity has used what it has."""

    #: reward → how often it was given
    given: Mapping[str, int]
    participants: int
    #: rewards whose coupon pool is at its end
    ended: Collection[str] = ()

    def cost(self, activity: Activity) -> float:
        """Of all rewards that were given, in major units."""
        return sum(self.given.get(each.name, 0) * each.cost for each in activity.rewards)


def stands_in(activity: Activity, switched: Mapping[str, str], reward: str) -> Reward:
    """What is given for a reward now, after every switch that has happened."""
    seen = {reward}
    while (to := switched.get(reward)) is not None and to not in seen:
        reward = to
        seen.add(to)
    return activity.reward(reward)


def refused(activity: Activity, reward: Reward, spent: Spent) -> str | None:
    """Why one more cannot be given; None: it can."""
    if reward.stock is not None and spent.given.get(reward.name, 0) >= reward.stock:
        return f"all {reward.stock:,} of {reward.name} are given"
    if activity.budget is not None and spent.cost(activity) + reward.cost > activity.budget + 1e-9:
        return f"the budget of {activity.budget:,.2f} is spent"
    return None


def fired(activity: Activity, spent: Spent, before: Iterable[str]) -> list[Contingency]:
    """The contingencies that are due, without those that fired before."""
    tests: dict[str, Callable[[Contingency], bool]] = {
        "stock": lambda each: (
            each.of in spent.ended or _used(activity.reward(str(each.of)), spent, each.share)
        ),
        "budget": lambda each: spent.cost(activity) >= each.share * (activity.budget or 0.0) - 1e-9,
        "participants": lambda each: spent.participants >= (each.at_least or 0),
    }
    done = set(before)
    return [each for each in activity.contingency if each.name not in done and tests[each.when](each)]


def _used(reward: Reward, spent: Spent, share: float) -> bool:
    return reward.stock is not None and spent.given.get(reward.name, 0) >= share * reward.stock
