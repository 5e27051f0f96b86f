"""One pass over contiguous memory: what each user would choose at given tolls, compiled by Numba.

A kernel runs over users first:last, lets go of the interpreter's lock and allocates nothing for a user. The
columns are those of `Problem`: `starts`, `value`, `amounts` and `kind`; the rules are `slots` (by kind
and family), `caps` (by slot), `most` and `least` tasks, and `nested`: whether greedy is exact. Tolls are by
row (0 for counts, then one for each summed column) and kind.

A user's own rules are obeyed exactly. Candidates are taken best first; where no rule came in the way, or the
slots are nested in one another (a laminar matroid, where greedy is optimal: Edmonds, 1971), that is the best
reply. Where slots cross, a depth-first search with the bound "the best so many, rules forgotten" settles it.
A search that grows past its limit answers that bound, so a sum over users stays an upper bound.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

#: nodes after which one user's search settles for its bound
_NODES = 20_000
#: part of a user's worth that is rounding
_DUST = 1e-12


#: candidates scored at a time, so that they are still in the nearest cache when they are ranked
_BLOCK = 4096
_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}


def _score_python(first: int, last: int, value: Any, amounts: Any, kind: Any, tolls: Any, left: Any) -> None:
    """Value less toll of candidates first:last."""
    toll = tolls[0]
    for each in range(last - first):
        left[each] = value[first + each] - toll[kind[first + each]]
    for row in range(amounts.shape[0]):
        amount, toll = amounts[row], tolls[row + 1]
        for each in range(last - first):
            left[each] -= amount[first + each] * toll[kind[first + each]]


def _least_python(
    first: int, last: int, value: Any, amounts: Any, kind: Any, low: Any, high: Any, left: Any
) -> None:
    """Value less the most that candidates first:last may pay between tolls `low` and `high`.

    With the two tables the other way round: value less the least that they may pay.
    """
    toll = high[0]
    for each in range(last - first):
        left[each] = value[first + each] - toll[kind[first + each]]
    for row in range(amounts.shape[0]):
        amount, below, above = amounts[row], low[row + 1], high[row + 1]
        for each in range(last - first):
            here, of = amount[first + each], kind[first + each]
            left[each] -= here * (above[of] if here >= 0 else below[of])


def _block_python(user: int, last: int, starts: Any) -> int:
    """The user after those who are scored together, from `user` on."""
    after = user + 1
    while after < last and starts[after + 1] - starts[user] <= _BLOCK:
        after += 1
    return after


def _widest_python(first: int, last: int, starts: Any) -> int:
    widest = 1
    for user in range(first, last):
        widest = max(widest, starts[user + 1] - starts[user])
    return widest


_score = numba.njit(**_OPTIONS)(_score_python)
_least = numba.njit(**_OPTIONS)(_least_python)
_block = numba.njit(**_OPTIONS)(_block_python)
_widest = numba.njit(**_OPTIONS)(_widest_python)


def _room_python(kind: Any, slots: Any, caps: Any, used: Any) -> Any:
    for family in range(slots.shape[1]):
        slot = slots[kind, family]
        if slot > 0 and used[slot] >= caps[slot]:
            return False
    return True


def _count_python(kind: Any, slots: Any, used: Any, by: Any) -> None:
    for family in range(slots.shape[1]):
        used[slots[kind, family]] += by


_room = numba.njit(inline="always", **_OPTIONS)(_room_python)
_count = numba.njit(inline="always", **_OPTIONS)(_count_python)


def _taken_python(
    size: int, worth: Any, sort: Any, slots: Any, caps: Any, most: int, least: int, family: int,
    used: Any, best: Any,
) -> tuple[float, int, bool]:  # fmt: skip
    """Greedy under every family (−1) or under one alone: (worth, count, whether a rule came in the way)."""
    value, count, blocked = 0.0, 0, False
    for position in range(size):
        if count == most or (worth[position] <= 0.0 and count >= least):
            break
        free = True
        for each in range(slots.shape[1]):
            slot = slots[sort[position], each]
            if (family < 0 or family == each) and slot > 0 and used[slot] >= caps[slot]:
                free = False
        if free:
            for each in range(slots.shape[1]):
                used[slots[sort[position], each]] += 1
            value += worth[position]
            best[count] = position
            count += 1
        else:
            blocked = True
    for each in range(count):
        _count(sort[best[each]], slots, used, -1)
    return value, count, blocked


_taken = numba.njit(**_OPTIONS)(_taken_python)


def _search_python(
    size: int, worth: Any, sort: Any, slots: Any, caps: Any, most: int, least: int, found: float, taken: int,
    used: Any, stack: Any, best: Any,
) -> tuple[float, float, int]:  # fmt: skip
    """(value found, upper bound, number taken) where rules cross, from what greedy left in `best`."""
    # greedy is exact for one family alone: if forgetting the others gains nothing, nothing can
    ceiling = np.inf
    for family in range(slots.shape[1]):
        alone, count, _ = _taken(size, worth, sort, slots, caps, most, least, family, used, stack)
        ceiling = min(ceiling, alone if count >= least else -np.inf)
        if ceiling <= found:
            return found, found, taken
    # rules crossed: search, knowing what greedy found
    value, count, depth, nodes, position = 0.0, 0, 0, 0, 0
    while True:
        nodes += 1
        bound, reach, ahead = value, count, position
        while reach < most and ahead < size and (worth[ahead] > 0.0 or reach < least):
            bound += worth[ahead]
            reach += 1
            ahead += 1
        descended = False
        if reach >= least and bound > found:
            ahead = position
            while count < most and ahead < size and (worth[ahead] > 0.0 or count < least):
                if _room(sort[ahead], slots, caps, used):
                    break
                ahead += 1
            if count < most and ahead < size and (worth[ahead] > 0.0 or count < least):
                stack[depth] = ahead
                depth += 1
                _count(sort[ahead], slots, used, 1)
                value += worth[ahead]
                count += 1
                position = ahead + 1
                descended = True
            elif count >= least and value > found:
                found, taken = value, depth
                for each in range(depth):
                    best[each] = stack[each]
                if found >= ceiling:
                    break
        if descended:
            continue
        if depth == 0 or nodes > _NODES:
            break
        depth -= 1
        last = stack[depth]
        _count(sort[last], slots, used, -1)
        value -= worth[last]
        count -= 1
        position = last + 1
    if nodes <= _NODES:
        ceiling = found
    while depth > 0:
        depth -= 1
        _count(sort[stack[depth]], slots, used, -1)
    return found, max(found, ceiling), taken


_search = numba.njit(**_OPTIONS)(_search_python)


def _choose_python(
    origin: int, begin: int, end: int, left: Any, floor: float, kind: Any,
    slots: Any, caps: Any, most: int, least: int, nested: bool,
    worth: Any, at: Any, sort: Any, used: Any, stack: Any, best: Any,
) -> tuple[float, float, int, int]:  # fmt: skip
    """One user's best reply: (value found, upper bound, number taken into `best`, number ranked).

    Those of left[begin:end] above `floor` are ranked, best first, equal ones in their order: `worth`, place
    `at`, and `sort`, their kind. Written out in one piece, as calls cost more than the work.
    """
    size = 0
    for each in range(begin, end):
        worth[size] = left[each]
        at[size] = each
        size += left[each] > floor
    for each in range(1, size):
        new, which, place = worth[each], at[each], each
        while place > 0 and worth[place - 1] < new:
            worth[place] = worth[place - 1]
            at[place] = at[place - 1]
            place -= 1
        worth[place] = new
        at[place] = which
    families = slots.shape[1]
    if families:
        for each in range(size):
            sort[each] = kind[origin + at[each]]
    found, taken, blocked = 0.0, 0, False
    for position in range(size):
        if taken == most or (worth[position] <= 0.0 and taken >= least):
            break
        free = True
        for family in range(families):
            slot = slots[sort[position], family]
            if slot > 0 and used[slot] >= caps[slot]:
                free = False
        if free:
            for family in range(families):
                used[slots[sort[position], family]] += 1
            found += worth[position]
            best[taken] = position
            taken += 1
        else:
            blocked = True
    for each in range(taken):
        for family in range(families):
            used[slots[sort[best[each]], family]] -= 1
    if taken < least:
        found, taken = -np.inf, 0
    ceiling = found
    if blocked and not nested:
        found, ceiling, taken = _search(
            size, worth, sort, slots, caps, most, least, found, taken, used, stack, best
        )
    return found, ceiling, taken, size


_choose = numba.njit(**_OPTIONS)(_choose_python)


def _reply_python(
    first: int, last: int, starts: Any, value: Any, amounts: Any, kind: Any,
    slots: Any, caps: Any, most: int, least: int, nested: bool,
    tolls: Any, table: Any, chosen: Any,
) -> tuple[float, float]:  # fmt: skip
    """(Σ what replies are worth at most after tolls, Σ their value); `table` gathers what they use.

    `chosen` [n] is marked where it has a place for every candidate.
    """
    widest = _widest(first, last, starts)
    left = np.empty(max(widest, _BLOCK))
    worth, at = np.empty(widest + 1), np.empty(widest + 1, np.int64)
    sort, stack, best = np.empty(widest, np.int64), np.empty(widest, np.int64), np.empty(widest, np.int64)
    used = np.zeros(caps.size, np.int64)
    floor = 0.0 if least == 0 else -np.inf
    mark = chosen.size > 0
    total, gained = 0.0, 0.0
    head = first
    while head < last:
        tail, origin = _block(head, last, starts), starts[head]
        _score(origin, starts[tail], value, amounts, kind, tolls, left)
        for user in range(head, tail):
            _, ceiling, taken, _ = _choose(
                origin, starts[user] - origin, starts[user + 1] - origin, left, floor, kind,
                slots, caps, most, least, nested, worth, at, sort, used, stack, best,
            )  # fmt: skip
            total += ceiling
            for each in range(taken):
                place = origin + at[best[each]]
                here = kind[place]
                gained += value[place]
                table[0, here] += 1
                for row in range(amounts.shape[0]):
                    table[row + 1, here] += amounts[row, place]
                if mark:
                    chosen[place] = True
        head = tail
    return total, gained


reply = numba.njit(**_OPTIONS)(_reply_python)


def _narrow_python(
    first: int, last: int, starts: Any, value: Any, amounts: Any, kind: Any,
    slots: Any, caps: Any, most: int, least: int, nested: bool,
    tolls: Any, low: Any, high: Any, table: Any, kept: Any, counts: Any,
) -> float:  # fmt: skip
    """Users whose best reply is the same between two tables of tolls are settled: `table` gathers their use.

    Of the others, `kept` [candidates of first:last] marks what some reply between those tolls may hold and
    `counts` [users of first:last] says how many that is. Returns the value of the settled. A user is settled
    only if the reply at `tolls` is best even with its own tolls highest and those of all others lowest.
    """
    widest = _widest(first, last, starts)
    room = max(widest, _BLOCK)
    left, dear, cheap = np.empty(room), np.empty(room), np.empty(room)
    inside = np.zeros(room, np.bool_)
    worth, at = np.empty(widest + 1), np.empty(widest + 1, np.int64)
    sort, stack, best = np.empty(widest, np.int64), np.empty(widest, np.int64), np.empty(widest, np.int64)
    used = np.zeros(caps.size, np.int64)
    floor = 0.0 if least == 0 else -np.inf
    settled = 0.0
    base, head = starts[first], first
    while head < last:
        tail, origin = _block(head, last, starts), starts[head]
        _score(origin, starts[tail], value, amounts, kind, tolls, left)
        _least(origin, starts[tail], value, amounts, kind, low, high, dear)
        _least(origin, starts[tail], value, amounts, kind, high, low, cheap)
        for user in range(head, tail):
            begin, end = starts[user] - origin, starts[user + 1] - origin
            _, _, taken, _ = _choose(
                origin, begin, end, left, floor, kind, slots, caps, most, least, nested,
                worth, at, sort, used, stack, best,
            )  # fmt: skip
            # from here on `left` has its own at their worst, the others at their best
            for each in range(begin, end):
                left[each] = cheap[each]
            mine = 0.0
            for each in range(taken):
                place = at[best[each]]
                inside[place] = True
                left[place] = dear[place]
                mine += dear[place]
            _, ceiling, _, _ = _choose(
                origin, begin, end, left, floor, kind, slots, caps, most, least, nested,
                worth, at, sort, used, stack, best,
            )  # fmt: skip
            sure = ceiling <= mine + _DUST * abs(mine)
            some = 0
            if sure:
                for each in range(begin, end):
                    if inside[each]:
                        here = kind[origin + each]
                        settled += value[origin + each]
                        table[0, here] += 1
                        for row in range(amounts.shape[0]):
                            table[row + 1, here] += amounts[row, origin + each]
            else:
                for each in range(begin, end):
                    if least > 0 or inside[each] or cheap[each] > 0.0:
                        kept[origin + each - base] = True
                        some += 1
            counts[user - first] = some
            for each in range(begin, end):
                inside[each] = False
        head = tail
    return settled


narrow = numba.njit(**_OPTIONS)(_narrow_python)
