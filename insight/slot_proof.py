"""What is known of the ids of an event's slots: which slots share none, and which do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from insight.leaves import Arrays, Key, LeafCache
from insight.slot_ids import Hashes, Span, shared

_TICK = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: span that meets none
_NO_LINE = (2**64 - 1, 0)


@dataclass(frozen=True, kw_only=True)
class SlotProof:
    """Of one event. Final slots are remembered for later versions, the others for this one."""

    cache: LeafCache
    #: (what, end of a slot or None, whether it is final) → what it is kept under
    key: Callable[[str, datetime | None, bool], Key]
    #: of the slots that count every line
    name: str

    def keep(self, end: datetime, final: bool, slot: Arrays, span: Span, hashes: Hashes) -> None:
        """What is to be known of a slot that has lines: its span goes with it, its hashes apart."""
        slot["span"] = np.array([span.low, span.high], np.uint64)
        self.cache.put_arrays(self._ids(end, final), {"hashes": hashes}, memory=False)

    def known(self, ends: Sequence[datetime]) -> dict[datetime, Span]:
        """Final slots of a window of which it was found that no two share an id."""
        kept = self.cache.arrays(self._once(ends))
        if kept is None:
            return {}
        spans = zip(kept["ends"].tolist(), kept["lows"].tolist(), kept["highs"].tolist(), strict=True)
        found = {instant_at(at): Span(low=low, high=high) for at, low, high in spans}
        return {end: found[end] for end in ends if end in found}

    def known_twice(self, ends: Sequence[datetime]) -> bool:
        """Whether two slots of the window are known to share one."""
        kept = [self.cache.arrays(self._twice(final)) for final in (True, False)]
        return any(each is not None and {instant_at(at) for at in each["ends"]} <= set(ends) for each in kept)

    def holds(
        self,
        ends: Sequence[datetime],
        known: Mapping[datetime, Span],
        slots: Mapping[datetime, tuple[Arrays, bool]],
    ) -> bool:
        """Whether no id of a user lies in two slots of the window; what is found out is kept.

        `slots`: those that are not `known`, each with whether it is final.
        """
        spans, final = dict(known), set(known)
        for end in set(ends) - set(known):
            arrays, ended = slots[end]
            low, high = arrays["span"].tolist() if "span" in arrays else _NO_LINE
            spans[end] = Span(low=low, high=high)
            if ended:
                final.add(end)
        try:
            pair = shared(spans, set(known), lambda end: self._hashes(end, end in final))
        except LookupError:  # of what was kept some is no longer: next time those slots are read again
            for end in ends:
                if self._hashes(end, end in final) is None:
                    self.cache.drop(self.key(self.name, end, end in final))
            self.cache.drop(self._once(ends))
            return False
        if pair is not None:
            self.cache.put_arrays(self._twice(set(pair) <= final), {"ends": micros_of(pair)})
            return False
        kept = {end: spans[end] for end in sorted(final)}
        self.cache.put_arrays(
            self._once(ends),
            {
                "ends": micros_of(kept),
                "lows": np.array([span.low for span in kept.values()], np.uint64),
                "highs": np.array([span.high for span in kept.values()], np.uint64),
            },
        )
        return True

    def _hashes(self, end: datetime, final: bool) -> Hashes | None:
        kept = self.cache.arrays(self._ids(end, final))
        return None if kept is None else kept["hashes"]

    def _ids(self, end: datetime, final: bool) -> Key:
        return self.key(f"{self.name} ids", end, final)

    def _once(self, ends: Sequence[datetime]) -> Key:
        return self.key(f"{self.name} once in {len(ends)}", None, True)

    def _twice(self, final: bool) -> Key:
        return self.key(f"{self.name} twice", None, final)


def micros_of(ends: Iterable[datetime]) -> NDArray[np.int64]:
    return np.array([(end - _EPOCH) // _TICK for end in ends], np.int64)


def instant_at(micros: int) -> datetime:
    return _EPOCH + int(micros) * _TICK
