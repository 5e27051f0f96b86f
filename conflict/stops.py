"""Rules that say when a search has done enough; any callable that is told of its progress is one."""

from __future__ import annotations

from dataclasses import dataclass, field

from conflict.solve import Progress, Stop
from kernel.errors import BadInput


@dataclass(frozen=True)
class Gap:
    """The relative gap is at most so much."""

    relative: float

    def __post_init__(self) -> None:
        _check("Gap", self.relative, least=0.0)

    def __call__(self, progress: Progress) -> bool:
        return progress.gap is not None and progress.gap <= self.relative


@dataclass(frozen=True)
class Seconds:
    """So many seconds have passed since the search began."""

    most: float

    def __post_init__(self) -> None:
        _check("Seconds", self.most, least=0.0)

    def __call__(self, progress: Progress) -> bool:
        return progress.seconds >= self.most


@dataclass(frozen=True)
class Rounds:
    """Choice or bound were bettered so many times."""

    most: int

    def __post_init__(self) -> None:
        _check("Rounds", self.most, least=1)

    def __call__(self, progress: Progress) -> bool:
        return progress.rounds >= self.most


@dataclass
class Stalled:
    """There is a choice, and nothing got better for so many seconds. One for each search."""

    seconds: float
    _since: float = field(default=0.0, init=False)
    _seen: tuple[float | None, float | None] = field(default=(None, None), init=False)

    def __post_init__(self) -> None:
        _check("Stalled", self.seconds, least=0.0)

    def __call__(self, progress: Progress) -> bool:
        now = (progress.objective, progress.bound)
        if now != self._seen or progress.seconds < self._since:
            self._seen, self._since = now, progress.seconds
        return progress.objective is not None and progress.seconds - self._since >= self.seconds


def any_of(*stops: Stop) -> Stop:
    """One rule of several: enough as soon as one of them says so. All are asked every time."""

    def enough(progress: Progress) -> bool:
        return True in [stop(progress) for stop in stops]

    return enough


def _check(rule: str, value: float, *, least: float) -> None:
    if not value >= least:
        raise BadInput(f"must be at least {least:g}", field=rule, value=value)
