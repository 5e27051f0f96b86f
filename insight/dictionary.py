"""The dictionary: user ids ↔ dense 32-bit numbers, kept for good.

Ids are only ever appended, in their order among those that are new, so numbers never change and every bitmap
of every day speaks of the same people. On disk the state is one small `head.json`, replaced as a whole after
what it names is safely written: whoever reads sees a whole dictionary, whenever the writer was stopped. Files
are mapped, not read. One writer at a time, by a lock on a file; readers need none.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from insight.dictionary_files import (
    HEAD,
    appended,
    describe,
    head_stamp,
    mapped,
    read_head,
    read_segment,
    remove_unnamed,
    replace_head,
    write_segment,
)
from insight.numbering import (
    NOBODY,
    NONE,
    Numbers,
    Segment,
    gather_texts,
    hash_texts,
    lookup_integers,
    lookup_text,
    segment_of_integers,
    segment_of_text,
    traces,
)
from kernel.errors import BadInput, NotFound, Unavailable

_IDS, _TEXT, _LOCK = "ids", "text", "lock"
#: ids that one thread looks up at a time
_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class _State:
    """What the dictionary holds, as of one moment. Never changed, only replaced."""

    #: None until the first id
    text: bool | None
    #: whole numbers: the ids by number. Text: where each ends (and the next begins), from 0
    ids: NDArray[np.int64]
    #: all bytes of all texts
    data: NDArray[np.uint8]
    segments: tuple[Segment, ...]
    #: numbers of the forgotten, sorted
    dead: Numbers
    #: of these, those whose bytes may still be there
    pending: tuple[int, ...]
    #: counts changes
    generation: int

    @property
    def count(self) -> int:
        return max(len(self.ids) - 1, 0) if self.text else len(self.ids)


_NEW = _State(
    text=None,
    ids=np.zeros(0, np.int64),
    data=np.zeros(0, np.uint8),
    segments=(),
    dead=np.zeros(0, np.uint32),
    pending=(),
    generation=0,
)


class UserDictionary:
    """User ids (Int64 or String) as numbers 0 … n − 1 in the order in which they were first seen.

    `folder`: where it is kept; without one it lives in memory. `refused`: says of new ids whether they may
    not have a number, as those of the forgotten. Safe for many threads and processes.
    """

    def __init__(
        self, folder: Path | None = None, *, refused: Callable[[pl.Series], pl.Series] | None = None
    ) -> None:
        self._folder, self._lock, self._refused = folder, RLock(), refused
        self._state, self._stamp = _NEW, (0, 0)
        self.identity = secrets.token_hex(8)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / HEAD).exists():
                with self._writing():
                    if not (folder / HEAD).exists():
                        self._commit(_NEW)
            self.refresh()

    def __len__(self) -> int:
        """Numbers given so far, those of the forgotten included."""
        return self._state.count

    @property
    def dtype(self) -> pl.DataType:
        return pl.String() if self._state.text else pl.Int64()

    @property
    def forgotten(self) -> BitMap:
        """Numbers that are nobody's any more."""
        return BitMap(self._state.dead)

    def extend(self, users: pl.Series) -> None:
        """Gives those that are new the next numbers, in their own order. NULL is nobody.

        Raises BadInput for ids of another type, or more than 32-bit numbers can count.
        """
        users = self._ids(users)
        if users.is_empty() or NONE not in self._find(users):
            return
        with self._writing():
            state = self._state
            fresh = _rising(users.filter(pl.Series(self._find(users) == NONE)) if state.count else users)
            if self._refused is not None:
                fresh = fresh.filter(~self._refused(fresh))
            if fresh.is_empty():
                return
            if state.count + len(fresh) >= int(NONE):
                raise BadInput("has more users than 32-bit numbers", field="entities.user")
            self._append(state, fresh)

    def numbers(self, users: pl.Series) -> pl.Series:
        """The number of each, UInt32, row by row; NULL for ids without one."""
        found = pl.Series(self.find(users))
        return pl.select(pl.when(found != NONE).then(found)).to_series()

    def find(self, users: pl.Series) -> Numbers:
        """The number of each, row by row; `NONE` for ids without one."""
        return self._find(self._ids(users))

    def positions(self, users: pl.Series) -> BitMap:
        """The set of their numbers. Ids without one are left out."""
        found = self.find(users)
        return BitMap(found[found != NONE])

    def position(self, user: object) -> int:
        """The number of one user. Raises NotFound for an id without one."""
        state = self._state
        fits = isinstance(user, int) and not isinstance(user, bool) and NOBODY < user < 2**63
        if isinstance(user, str) if state.text else fits:
            out = np.full(1, NONE, np.uint32)  # without a Series, which would cost more than all else
            if isinstance(user, str):
                text = np.frombuffer(user.encode("utf-8", "surrogatepass"), np.uint8)
                _look_texts(state, np.array([0, len(text)], np.int64), text, out)
            else:
                _look_integers(state, np.array([user], np.int64), out)
            if out[0] != NONE and not (len(state.dead) and out[0] in state.dead):
                return int(out[0])
        some = self.users(BitMap(range(min(8, state.count))))
        raise NotFound("user", user, some.to_list())

    def users(self, members: BitMap) -> pl.Series:
        """The ids of a set in the order of their numbers. The forgotten are left out."""
        if members and members.max() >= len(self):
            self.refresh()  # numbers from another process
        state = self._state
        if len(state.dead):
            members = members - BitMap(state.dead)
        asked = np.asarray(members.to_array(), dtype=np.uint32)
        if len(asked) and int(asked[-1]) >= state.count:
            raise NotFound("number of a user", int(asked[-1]), ())
        if not state.text:
            return pl.Series(state.ids[asked])
        offsets = np.zeros(len(asked) + 1, np.int64)
        np.cumsum(state.ids[asked.astype(np.int64) + 1] - state.ids[asked], out=offsets[1:])
        data = np.empty(int(offsets[-1]), np.uint8)
        gather_texts(asked, state.ids, state.data, offsets, data)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        return pl.Series(pl.from_arrow(pa.LargeStringArray.from_buffers(len(asked), buffers[1], buffers[2])))

    def all(self) -> BitMap:
        """Every number that is somebody's."""
        return BitMap(range(len(self))) - self.forgotten

    def forget(self, user: object) -> int:
        """Removes the id, byte by byte, from memory and disk; its number is never given again.

        Returns the number. Raises NotFound. Stopped in the middle, the next writer completes it.
        """
        with self._writing():
            number, state = self.position(user), self._state
            dead = np.sort(np.append(state.dead, np.uint32(number)))
            self._commit(replace(state, dead=dead, pending=(*state.pending, number)))
            self._scrub()
            return number

    def refresh(self) -> None:
        """Sees what other processes have appended."""
        if self._folder is None:
            return
        with self._lock:
            stamp = head_stamp(self._folder)
            while stamp != self._stamp:
                # A file that is gone was replaced between reading the head and opening it: read it again.
                with suppress(FileNotFoundError):
                    self._state = self._load(self._folder)
                    self._stamp = stamp
                stamp = head_stamp(self._folder)

    def _ids(self, users: pl.Series) -> pl.Series:
        """As Int64 or String, whichever the dictionary holds. Raises BadInput for the other one."""
        if users.dtype == pl.Null or users.is_empty():
            return pl.Series(users.name, [None] * len(users), dtype=self.dtype)
        text = users.dtype == pl.String
        if not text and not users.dtype.is_integer():
            raise BadInput("is not whole numbers or text", field="user ids", value=str(users.dtype))
        if self._state.text is not None and text != self._state.text:
            kinds = ("text", "whole numbers")
            problem = f"are {kinds[not text]}, and the dictionary holds {kinds[not self._state.text]}"
            raise BadInput(problem, field="user ids", value=str(users.head(1).to_list()[0]))
        if not text:
            users = users.cast(pl.Int64)
            if users.min() == NOBODY:
                raise BadInput("is no id of a user", field="user ids", value=NOBODY)
        return users

    def _find(self, users: pl.Series) -> Numbers:
        state, out = self._state, np.full(len(users), NONE, np.uint32)
        if not state.count or users.is_empty():
            return out
        pieces = [slice(i, i + _PIECE) for i in range(0, len(users), _PIECE)]
        if len(pieces) == 1:
            _look(state, users, out)
        else:
            with ThreadPoolExecutor(min(os.cpu_count() or 1, len(pieces))) as pool:
                list(pool.map(lambda part: _look(state, users[part], out[part]), pieces))
        if len(state.dead):
            out[np.isin(out, state.dead)] = NONE
        return out

    def _append(self, state: _State, fresh: pl.Series) -> None:
        """`fresh`: new, rising."""
        begin, data = state.count, state.data
        if fresh.dtype == pl.String:
            offsets, added = text_buffers(fresh)
            old = state.ids[-1] if begin else 0
            ids = self._grown(_IDS, state.ids, offsets[1 if begin else 0 :] + old)
            data = self._grown(_TEXT, state.data, added)
        else:
            ids = self._grown(_IDS, state.ids, fresh.to_numpy())
        state = replace(state, text=fresh.dtype == pl.String, ids=ids, data=data)
        # Like a log-structured merge: a part joins the one before it when it is at least half its size.
        segments, end = list(state.segments), state.count
        while segments and 2 * (end - begin) >= segments[-1].end - segments[-1].begin:
            begin = segments.pop().begin
        self._commit(replace(state, segments=(*segments, _segment(state, begin))))

    def _scrub(self) -> None:
        """Removes what is left of forgotten ids: first from the index, since that is found by the id."""
        for number in self._state.pending:
            state = self._state
            segment = next(each for each in state.segments if each.begin <= number < each.end)
            for part, place, value in traces(segment, number, _key(state, segment, number), state.ids):
                _overwrite(state.ids if part == "ids" else getattr(segment, part), place, value)
            if state.text:
                _overwrite(state.data, slice(int(state.ids[number]), int(state.ids[number + 1])), 0)
            elif segment.table is not None or segment.keys is not None:
                _overwrite(state.ids, number, NOBODY)
        self._commit(replace(self._state, pending=()))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """The only writer, knowing all that was written. Raises Unavailable when the disk refuses; then
        everything is as before."""
        if self._folder is None:
            with self._lock:
                yield
            return
        with self._lock, (self._folder / _LOCK).open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if (self._folder / HEAD).exists():
                    self.refresh()
                if self._state.pending:
                    self._scrub()
                yield
            except OSError as error:
                raise Unavailable(f"the dictionary in {self._folder} cannot be written: {error}") from error

    def _grown(self, name: str, old: Any, added: Any) -> Any:
        """`old` and then `added`: in memory, or appended to a file behind what is in use of it."""
        if self._folder is None:
            return np.concatenate([old, added])
        return appended(self._folder / name, old, np.ascontiguousarray(added, dtype=old.dtype))

    def _commit(self, state: _State) -> None:
        """From now on it is so."""
        state = replace(state, generation=state.generation + 1)
        if self._folder is not None:
            named = [
                each if each.name else write_segment(self._folder, each, f"{state.generation}-{i}")
                for i, each in enumerate(state.segments)
            ]
            state = replace(state, segments=tuple(named))
            head = {
                "identity": self.identity,
                "text": state.text,
                "lengths": [len(state.ids), len(state.data)],
                "segments": [describe(each) for each in named],
                "dead": state.dead.tolist(),
                "pending": state.pending,
                "generation": state.generation,
            }
            replace_head(self._folder, head)
            self._stamp = head_stamp(self._folder)
        self._state = state
        if self._folder is not None:
            remove_unnamed(self._folder, {each.name for each in state.segments})

    def _load(self, folder: Path) -> _State:
        head = read_head(folder)
        self.identity = head["identity"]
        long, wide = head["lengths"]
        return _State(
            text=head["text"],
            ids=mapped(folder / _IDS, np.int64, long),
            data=mapped(folder / _TEXT, np.uint8, wide),
            segments=tuple(read_segment(folder, each) for each in head["segments"]),
            dead=np.array(head["dead"], np.uint32),
            pending=tuple(head["pending"]),
            generation=head["generation"],
        )


def text_buffers(texts: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Offsets (n + 1, from 0) and bytes of texts without NULL."""
    arrow = texts.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.large_string())
    _, offsets, data = arrow.buffers()
    ends = np.frombuffer(offsets, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    whole = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return ends - ends[0], whole[int(ends[0]) : int(ends[-1])]


def _look(state: _State, users: pl.Series, out: Numbers) -> None:
    """Fills `out` with the numbers of `users`."""
    known = users.is_not_null()
    if not known.all():
        some = np.full(int(known.sum()), NONE, np.uint32)
        _look(state, users.filter(known), some)
        out[known.to_numpy()] = some
        return
    if not state.text:
        _look_integers(state, users.to_numpy(), out)
    else:
        _look_texts(state, *text_buffers(users), out)


def _look_integers(state: _State, ids: NDArray[np.int64], out: Numbers) -> None:
    for segment in state.segments:
        lookup_integers(ids, segment, state.ids, out)


def _look_texts(state: _State, offsets: NDArray[np.int64], data: NDArray[np.uint8], out: Numbers) -> None:
    hashes = np.empty(len(out), np.uint64)
    hash_texts(offsets, data, hashes)
    for segment in state.segments:
        lookup_text(hashes, offsets, data, segment, state.ids, state.data, out)


def _rising(users: pl.Series) -> pl.Series:
    """Each once, without NULL, in order."""
    users = users.drop_nulls()
    if users.dtype != pl.String and bool(np.all(users.to_numpy()[1:] > users.to_numpy()[:-1])):
        return users
    return users.unique().sort()


def _segment(state: _State, begin: int) -> Segment:
    """Of all ids from number `begin` on."""
    if not state.text:
        return segment_of_integers(state.ids[begin:], begin, state.dead)
    hashes = np.empty(state.count - begin, np.uint64)
    hash_texts(state.ids[begin:], state.data, hashes)
    return segment_of_text(hashes, begin, state.dead)


def _key(state: _State, segment: Segment, number: int) -> int:
    """What the segment knows a number's id by."""
    if state.text:
        hashes = np.empty(1, np.uint64)
        hash_texts(state.ids[number : number + 2], state.data, hashes)
        return int(hashes[0])
    user = int(state.ids[number])
    return user if segment.table is not None else user - NOBODY


def _overwrite(array: Any, place: Any, value: int) -> None:
    """In memory, or in the file that the array is mapped from."""
    if not isinstance(array, np.memmap):
        array[place] = value
        return
    assert array.filename is not None  # noqa: S101  every map here is of a file
    whole = np.memmap(array.filename, array.dtype, "r+", shape=array.shape)
    whole[place] = value
    whole.flush()
