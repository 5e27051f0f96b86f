"""Lines of users in columns: what the log has of them, what the sources have, and both with nothing twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from insight.catalog import Catalog
from insight.fresh_batch import micros
from insight.fresh_events import Fresh
from insight.fresh_history import read_lines
from kernel.events import INSTANT

_KINDS: Mapping[str, Any] = {
    "string": pl.String,
    "integer": pl.Int64,
    "decimal": pl.Float64,
    "boolean": pl.Boolean,
    "date": pl.Date,
    "datetime": INSTANT,
}
#: users asked about in one go, at most
_TOGETHER = 32_768


class Pile:
    """Frames of one schema, each at least twice as long as the next: added to often, read as a whole."""

    def __init__(self) -> None:
        self.frames: list[pl.DataFrame] = []

    def __len__(self) -> int:
        return sum(frame.height for frame in self.frames)

    def add(self, frame: pl.DataFrame) -> None:
        if not frame.height:
            return
        self.frames.append(frame)
        while len(self.frames) > 1 and self.frames[-2].height < 2 * self.frames[-1].height:
            last = self.frames.pop()
            self.frames[-1] = pl.concat([self.frames[-1], last], rechunk=True)

    def of(self, wanted: NDArray[np.bool_]) -> pl.DataFrame | None:
        """Rows of the users whose places are wanted; None where nothing was ever added."""
        found = [frame.filter(wanted[frame["place"].to_numpy()]) for frame in self.frames]
        return pl.concat(found) if found else None

    def kept(self, keep: Callable[[pl.DataFrame], pl.DataFrame]) -> Pile:
        """Another pile, of what `keep` leaves of each frame."""
        found = Pile()
        for frame in self.frames:
            found.add(keep(frame))
        return found


class Sent:
    """Lines of the log: [place, at, received, event (its number in the log), id where it has one, fields]."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog, self.piles = catalog, defaultdict[str, Pile](Pile)

    def add(self, events: Sequence[tuple[int, Fresh]]) -> None:
        """(place of the user, event) each."""
        named: dict[str, list[tuple[int, Fresh]]] = {}
        for each in events:
            named.setdefault(each[1].name, []).append(each)
        for name, some in named.items():
            self.piles[name].add(self._frame(name, some))

    @property
    def events(self) -> int:
        """How many; all lines of one are in one frame."""
        frames = (frame for pile in self.piles.values() for frame in pile.frames)
        return sum(frame["event"].n_unique() for frame in frames)

    def places(self, count: int) -> NDArray[np.int64]:
        """Of users with lines, rising; below `count`."""
        found = np.zeros(count, bool)
        for pile in self.piles.values():
            for frame in pile.frames:
                found[frame["place"].to_numpy()] = True
        return np.flatnonzero(found)

    def of(self, name: str, wanted: NDArray[np.bool_]) -> pl.DataFrame | None:
        return self.piles[name].of(wanted) if name in self.piles else None

    def kept(self, keep: Callable[[str, pl.DataFrame], pl.DataFrame]) -> Sent:
        """Another, of what `keep` leaves of each event's lines."""
        found = Sent(self._catalog)
        for name, pile in self.piles.items():
            found.piles[name] = pile.kept(lambda frame, name=name: keep(name, frame))  # type: ignore[misc]
        return found

    def _frame(self, name: str, events: Iterable[tuple[int, Fresh]]) -> pl.DataFrame:
        event = self._catalog.events[name]
        rows = [(place, sent, line) for place, sent in events for line in sent.lines]
        columns: dict[str, Any] = {
            "place": pl.Series([place for place, _, _ in rows], dtype=pl.Int32),
            "at": pl.Series([micros(line.at) for _, _, line in rows], dtype=pl.Int64),
            "received": pl.Series([micros(sent.received_at) for _, sent, _ in rows], dtype=pl.Int64),
            "event": pl.Series([sent.number for _, sent, _ in rows], dtype=pl.Int64),
        }
        if event.id is not None:
            columns["id"] = pl.Series([line.event_id for _, _, line in rows])
        for short, route in event.fields.items():
            values = [line.values.get(short) for _, _, line in rows]
            columns[short] = pl.Series(values, dtype=_KINDS[route.type])
        return pl.DataFrame(columns)


def event_table(catalog: Catalog, name: str, events: Iterable[Fresh]) -> pl.DataFrame:
    """[user_id, event_id, occurred_at, received_at, fields]: a row each line, typed as the catalog says."""
    rows = [(sent, line) for sent in events for line in sent.lines]
    event = catalog.events[name]
    ids = [line.event_id if event.id is not None else sent.event_id for sent, line in rows]
    columns = {
        "user_id": pl.Series([sent.user for sent, _ in rows]),
        "event_id": pl.Series(ids),
        "occurred_at": pl.Series([sent.occurred_at for sent, _ in rows], dtype=INSTANT),
        "received_at": pl.Series([sent.received_at for sent, _ in rows], dtype=INSTANT),
    }
    for short, route in event.fields.items():
        columns[short] = pl.Series([line.values.get(short) for _, line in rows], dtype=_KINDS[route.type])
    return pl.DataFrame(columns)


class Known:
    """Lines of the sources, read by key and kept; above `most` all are forgotten, and read again."""

    def __init__(self, catalog: Catalog, most: int, depths: Mapping[str, Any]) -> None:
        """`depths`: event → how far back from now its lines matter (None: for ever)."""
        self._catalog, self._most, self.depths = catalog, most, depths
        self.piles = defaultdict[str, Pile](Pile)
        self.read = np.zeros(0, bool)
        #: users that are asked about in one go, by how many lines they had so far
        self.together = _TOGETHER

    def of(
        self, users: Sequence[Any], places: NDArray[np.int64], since: Mapping[str, Any]
    ) -> dict[str, pl.DataFrame]:
        """Event → lines of these users, what is not known read. Raises Unavailable."""
        self._grow(int(places.max(initial=-1)) + 1)
        missing = [(user, place) for user, place in zip(users, places.tolist(), strict=True)
                   if not self.read[place]]  # fmt: skip
        if missing:
            if sum(map(len, self.piles.values())) > self._most:
                self.piles.clear()
                self.read[:] = False
                missing = list(zip(users, places.tolist(), strict=True))
            self._load([user for user, _ in missing], [place for _, place in missing], since)
        wanted = np.zeros(len(self.read), bool)
        wanted[places] = True
        found = {name: pile.of(wanted) for name, pile in self.piles.items()}
        return {name: frame for name, frame in found.items() if frame is not None}

    def moved(self, to: NDArray[np.int64]) -> Known:
        """The same with users at other places (−1: gone)."""
        found = Known(self._catalog, self._most, self.depths)
        found.together = self.together
        found._grow(int(to.max(initial=-1)) + 1)
        here = np.flatnonzero(to[: len(self.read)] >= 0)
        found.read[to[here]] = self.read[here]
        for name, pile in self.piles.items():
            found.piles[name] = pile.kept(lambda frame: moved(frame, to))
        return found

    def _grow(self, count: int) -> None:
        if count > len(self.read):
            grown = np.zeros(max(count, 2 * len(self.read)), bool)
            grown[: len(self.read)] = self.read
            self.read = grown

    def _load(self, users: list[Any], places: list[int], since: Mapping[str, Any]) -> None:
        read, lines = read_lines(self._catalog, since, users), 0
        where = pl.DataFrame({"user": users, "place": pl.Series(places, dtype=pl.Int32)})
        for name, frame in read.items():
            placed = frame.join(where, on="user", how="inner", maintain_order="left").drop("user")
            renamed = placed.rename({"event_id": "id"}) if "event_id" in placed.columns else placed
            columns = ["place", "at", *(each for each in renamed.columns if each not in ("place", "at"))]
            self.piles[name].add(renamed.select(columns))
            lines += renamed.height
        self.read[places] = True
        self.together = int(np.clip(self._most * len(users) // (4 * (lines + 1)), 64, _TOGETHER))


def moved(frame: pl.DataFrame, to: NDArray[np.int64]) -> pl.DataFrame:
    """Rows at other places; those of whom is gone (−1) left out."""
    places = pl.Series("place", to[frame["place"].to_numpy()], dtype=pl.Int32)
    return frame.with_columns(places).filter(places >= 0)


def merged(
    catalog: Catalog, name: str, known: pl.DataFrame | None, sent: pl.DataFrame | None
) -> pl.DataFrame | None:
    """Lines of an event that the sources and the log know together, nothing twice.

    An event with an id in the catalog is known by it, and the source's lines stand; one without is known by
    its instant and the properties that it was sent with, as often as it was sent: those that say all that the
    source says first, then the others in the order in which they came.
    """
    if sent is not None:
        event = catalog.events[name]
        if known is not None and known.height:
            if event.id is not None:
                sent = sent.join(known.select("place", "id"), on=["place", "id"], how="anti")
            else:
                sent = _unknown(sent, known, list(event.fields))
        sent = sent.drop("received", "event")
    if known is None or sent is None:
        return sent if known is None else known
    return pl.concat([known, sent.select(known.columns)]) if sent.height else known


def _unknown(sent: pl.DataFrame, known: pl.DataFrame, fields: list[str]) -> pl.DataFrame:
    """Lines sent that the sources do not know, each of theirs standing for one of ours."""
    at = ["place", "at"]
    suspect = sent.join(known.select(at), on=at, how="semi")
    if suspect.is_empty():
        return sent
    known = known.select(*at, *fields).join(suspect.select(at), on=at, how="semi")
    same, nth = [*at, *fields], "//nth"
    sent = sent.with_row_index("//row").with_columns(pl.int_range(pl.len()).over(same).alias(nth))
    known = known.with_row_index("//row").with_columns(pl.int_range(pl.len()).over(same).alias(nth))
    whole = [*same, nth]
    taken = sent.join(known.select(*whole, pl.lit(True).alias("//")), on=whole, how="semi", nulls_equal=True)
    left = known.join(sent.select(whole), on=whole, how="anti", nulls_equal=True)
    sent = sent.join(taken.select("//row"), on="//row", how="anti")
    doubtful = sent.join(left.select(at), on=at, how="semi").sort("event", "//row")
    spare: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in left.sort("//row").iter_rows(named=True):
        spare.setdefault((row["place"], row["at"]), []).append(row)
    gone = []
    for row in doubtful.iter_rows(named=True):
        there = spare.get((row["place"], row["at"]), [])
        for each in there:
            if all(row[short] is None or row[short] == each[short] for short in fields):
                there.remove(each)
                gone.append(row["//row"])
                break
    return sent.filter(~pl.col("//row").is_in(gone)).drop("//row", nth)
