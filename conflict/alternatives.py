"""Every reply of a user that is nearly as good as the best: the second pass over memory, compiled by Numba.

The first, and what the arguments are, stands in `kernels`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from conflict.kernels import (
    _BLOCK,
    _DUST,
    _NODES,
    _OPTIONS,
    _block,
    _choose,
    _count,
    _least,
    _room,
    _score,
    _widest,
)


def _rivals_python(
    first: int, last: int, starts: Any, value: Any, amounts: Any, kind: Any,
    slots: Any, caps: Any, most: int, least: int, nested: bool,
    tolls: Any, low: Any, high: Any, within: float, room: int,
    owner: Any, lengths: Any, members: Any, losses: Any,
) -> tuple[int, int, int]:  # fmt: skip
    """Every reply of every user that may be best between two tables of tolls, or loses at most `within`.

    Written one after the other, a user's best reply at `tolls` first: its user into `owner`, how many
    candidates it holds into `lengths`, those into `members`, and what it loses against the best at `tolls`
    into `losses`. Users with one reply only are left out; one with more than `room` others is cut there.
    Returns (replies, members, users cut); arrays too small are filled as far as they go and the counts still
    say what was needed.
    """
    widest = _widest(first, last, starts)
    size_ = max(widest, _BLOCK)
    left, dear, cheap = np.empty(size_), np.empty(size_), np.empty(size_)
    inside = np.zeros(size_, np.bool_)
    worth, at = np.empty(widest + 1), np.empty(widest + 1, np.int64)
    sort, stack, best = np.empty(widest, np.int64), np.empty(widest, np.int64), np.empty(widest, np.int64)
    used = np.zeros(caps.size, np.int64)
    floor = 0.0 if least == 0 else -np.inf
    replies, many, cut = 0, 0, 0
    head = first
    while head < last:
        tail, origin = _block(head, last, starts), starts[head]
        _score(origin, starts[tail], value, amounts, kind, tolls, left)
        _least(origin, starts[tail], value, amounts, kind, low, high, dear)
        _least(origin, starts[tail], value, amounts, kind, high, low, cheap)
        for user in range(head, tail):
            begin, end = starts[user] - origin, starts[user + 1] - origin
            _, top, taken, _ = _choose(
                origin, begin, end, left, floor, kind, slots, caps, most, least, nested,
                worth, at, sort, used, stack, best,
            )  # fmt: skip
            if taken < least:
                continue
            mine = 0.0
            for each in range(taken):
                place = at[best[each]]
                inside[place] = True
                mine += dear[place]
                cheap[place] = dear[place]
            bar = mine - within - _DUST * abs(mine)
            _, _, _, size = _choose(
                origin, begin, end, cheap, -np.inf, kind, slots, caps, most, least, nested,
                worth, at, sort, used, stack, best,
            )  # fmt: skip
            others = 0
            if taken > 0 and least == 0 and bar <= 0.0:
                # choosing nothing is a reply too
                replies, many = _write(
                    replies,
                    many,
                    user,
                    taken,
                    begin,
                    end,
                    origin,
                    inside,
                    0.0,
                    owner,
                    lengths,
                    members,
                    losses,
                )
                if replies < owner.size:
                    owner[replies], lengths[replies], losses[replies] = user, 0, top
                replies += 1
                others = 1
            depth, position, sum_, nodes = 0, 0, 0.0, 0
            while True:
                nodes += 1
                descended = False
                ahead = position
                while depth < most and ahead < size:
                    if sum_ + _top(worth, ahead, size, most - depth, least - depth) < bar:
                        ahead = size
                    elif _room(sort[ahead], slots, caps, used):
                        break
                    else:
                        ahead += 1
                if depth < most and ahead < size:
                    stack[depth] = ahead
                    depth += 1
                    _count(sort[ahead], slots, used, 1)
                    sum_ += worth[ahead]
                    position = ahead + 1
                    descended = True
                    if depth >= least and sum_ >= bar:
                        same = depth == taken
                        for each in range(depth):
                            same = same and inside[at[stack[each]]]
                        if not same and others == room:
                            others += 1
                            break
                        if not same:
                            others += 1
                            if others == 1:
                                replies, many = _write(
                                    replies, many, user, taken, begin, end, origin, inside, 0.0,
                                    owner, lengths, members, losses,
                                )  # fmt: skip
                            plain = 0.0
                            for each in range(depth):
                                place = at[stack[each]]
                                plain += left[place]
                                if many < members.size:
                                    members[many] = origin + place
                                many += 1
                            if replies < owner.size:
                                owner[replies], lengths[replies], losses[replies] = user, depth, top - plain
                            replies += 1
                if descended:
                    continue
                if depth == 0 or nodes > _NODES:
                    break
                depth -= 1
                final = stack[depth]
                _count(sort[final], slots, used, -1)
                sum_ -= worth[final]
                position = final + 1
            if others > room or nodes > _NODES:
                cut += 1
            while depth > 0:
                depth -= 1
                _count(sort[stack[depth]], slots, used, -1)
            for each in range(begin, end):
                inside[each] = False
        head = tail
    return replies, many, cut


def _top_python(worth: Any, position: int, size: int, most: int, least: int) -> float:
    """The best that `position` and later can add, if `position` is taken."""
    sum_, taken, ahead = worth[position], 1, position + 1
    while taken < most and ahead < size and (worth[ahead] > 0.0 or taken < least):
        sum_ += worth[ahead]
        taken += 1
        ahead += 1
    return float(sum_)


def _write_python(
    replies: int, many: int, user: int, taken: int, begin: int, end: int, origin: int, inside: Any,
    loss: float, owner: Any, lengths: Any, members: Any, losses: Any,
) -> tuple[int, int]:  # fmt: skip
    """A user's best reply, before the first other one."""
    for each in range(begin, end):
        if inside[each]:
            if many < members.size:
                members[many] = origin + each
            many += 1
    if replies < owner.size:
        owner[replies], lengths[replies], losses[replies] = user, taken, loss
    return replies + 1, many


_top = numba.njit(**_OPTIONS)(_top_python)
_write = numba.njit(**_OPTIONS)(_write_python)
rivals = numba.njit(**_OPTIONS)(_rivals_python)
