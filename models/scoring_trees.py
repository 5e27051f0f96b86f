"""Boosted trees scored for users × tasks at once: a tree tests a user once, not once a task.

Every test of a tree, `goes right`, strikes the leaves to its left from a word of bits; the lowest bit left
is the leaf (QuickScorer: Lucchese et al., SIGIR 2015). Striking commutes, so what a task's own features
strike is one word a tree and task, known before any user is seen, and only what user and task have together
is left to each pair. Values are compared as ranks among the thresholds of their column, a byte each, which
processors compare by dozens.

Sums are in the order of the trees, shared ones last: equal to LightGBM's to its own rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import lightgbm as lgb
import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: leaves of a tree that fit a word
MOST_LEAVES = 64
#: rows that are scored together: their ranks and words stay in the first cache
TILE = 256
#: what a value that is missing counts as at a test; LightGBM's `missing_type` and `default_left`
_AS_ZERO, _LEFT, _RIGHT, _ZERO_LEFT, _ZERO_RIGHT = range(5)
#: LightGBM's kZeroThreshold
_ZERO = 1e-35


class Unsupported(Exception):
    """The forest has something that bits cannot say: categories, more than 64 leaves, several classes."""


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Trees of one or several boosters (their mean) over named features."""

    features: tuple[str, ...]
    #: column → feature, and what a missing value is; a column is a feature with one such rule
    column_feature: NDArray[np.int64]
    column_missing: NDArray[np.int64]
    #: thresholds by column, rising: those of column c are [starts[c], starts[c + 1])
    thresholds: Floats
    starts: NDArray[np.int64]
    #: by node: its column, the rank up to which it goes left, the leaves that going right leaves
    node_column: NDArray[np.int64]
    node_rank: NDArray[np.int64]
    node_keep: NDArray[np.uint64]
    #: nodes of tree t are [tree_nodes[t], tree_nodes[t + 1]), its leaves' values likewise
    tree_nodes: NDArray[np.int64]
    tree_leaves: NDArray[np.int64]
    leaves: Floats

    @property
    def trees(self) -> int:
        return len(self.tree_nodes) - 1

    @property
    def word(self) -> Any:
        """The smallest word that holds the leaves of every tree."""
        most = int(np.diff(self.tree_leaves).max(initial=1))
        return next(
            kind for kind in (np.uint8, np.uint16, np.uint32, np.uint64) if most <= kind(0).itemsize * 8
        )


def compile_forest(boosters: Sequence[lgb.Booster], features: Sequence[str]) -> Forest:
    """Raises Unsupported."""
    nodes: list[tuple[int, int, float, int]] = []  # feature, missing, threshold, struck leaves
    tree_nodes, tree_leaves, values = [0], [0], list[float]()
    for booster in boosters:
        dump = booster.dump_model()
        if dump["num_tree_per_iteration"] != 1 or dump.get("average_output"):
            raise Unsupported("several classes, or trees that are averaged")
        for info in dump["tree_info"]:
            leaves = list(_walk(info["tree_structure"], nodes, 0))
            if len(leaves) > MOST_LEAVES:
                raise Unsupported(f"a tree of {len(leaves)} leaves")
            values += [value / len(boosters) for value in leaves]
            tree_nodes.append(len(nodes))
            tree_leaves.append(len(values))
    columns = sorted({(feature, missing) for feature, missing, _, _ in nodes})
    place = {column: at for at, column in enumerate(columns)}
    limits = [sorted({t for f, m, t, _ in nodes if (f, m) == column}) for column in columns]
    rank = [{limit: at for at, limit in enumerate(each)} for each in limits]
    return Forest(
        features=tuple(features),
        column_feature=np.array([feature for feature, _ in columns], np.int64),
        column_missing=np.array([missing for _, missing in columns], np.int64),
        thresholds=np.array([limit for each in limits for limit in each], np.float64),
        starts=np.cumsum([0, *map(len, limits)]).astype(np.int64),
        node_column=np.array([place[f, m] for f, m, _, _ in nodes], np.int64),
        node_rank=np.array([rank[place[f, m]][t] for f, m, t, _ in nodes], np.int64),
        node_keep=~np.array([struck for _, _, _, struck in nodes], np.uint64),
        tree_nodes=np.array(tree_nodes, np.int64),
        tree_leaves=np.array(tree_leaves, np.int64),
        leaves=np.array(values, np.float64),
    )


def _walk(node: dict[str, Any], nodes: list[tuple[int, int, float, int]], first: int) -> Iterator[float]:
    """Leaf values from left to right; the first is number `first` of the tree. Adds the tests to `nodes`."""
    if "split_feature" not in node:
        yield float(node["leaf_value"])
        return
    if node["decision_type"] != "<=":
        raise Unsupported("categories")
    missing, left = node["missing_type"], bool(node["default_left"])
    rule = _AS_ZERO
    if missing == "NaN":
        rule = _LEFT if left else _RIGHT
    elif missing == "Zero":
        rule = _ZERO_LEFT if left else _ZERO_RIGHT
    below = list(_walk(node["left_child"], nodes, first))
    struck = ((1 << len(below)) - 1) << first if first + len(below) <= MOST_LEAVES else 0
    nodes.append((int(node["split_feature"]), rule, float(node["threshold"]), struck))
    yield from below
    yield from _walk(node["right_child"], nodes, first + len(below))


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """A forest as some tasks see it: tests of their own features done, the rest sorted by whose they are."""

    forest: Forest
    #: feature → its row among the users' columns, or among those of the pairs
    user_rows: NDArray[np.int64]
    pair_rows: NDArray[np.int64]
    #: nodes by tree that test a user, and those that test a pair
    user_nodes: NDArray[np.int64]
    user_ends: NDArray[np.int64]
    pair_nodes: NDArray[np.int64]
    pair_ends: NDArray[np.int64]
    #: tree × task: leaves that the task's own features leave, and which of them it shares with which task
    left: NDArray[Any]
    group: NDArray[np.int64]
    groups: NDArray[np.int64]

    @cached_property
    def given(self) -> tuple[Any, ...]:
        """What the kernel is given besides values."""
        forest, word = self.forest, self.left.dtype.type
        rank = np.uint8 if np.diff(forest.starts).max(initial=0) <= 255 else np.uint16
        return (
            forest.column_feature, forest.column_missing, forest.thresholds, forest.starts,
            forest.node_column, forest.node_rank.astype(rank), forest.node_keep.astype(word),
            forest.tree_leaves, forest.leaves, self.user_rows, self.pair_rows,
            self.user_nodes, self.user_ends, self.pair_nodes, self.pair_ends,
            self.left, self.group, self.groups, ~word(0), np.empty(0, rank),
        )  # fmt: skip


def prepare(
    forest: Forest, tasks: Floats, task_features: Sequence[str], pair_features: Sequence[str] = ()
) -> Tasks:
    """`tasks`: rows × `task_features`; what is neither a task's nor a pair's feature is the user's."""
    task_at = {name: at for at, name in enumerate(task_features)}
    pair_at = {name: at for at, name in enumerate(pair_features)}
    names = forest.features
    users = [name for name in names if name not in task_at and name not in pair_at]
    user_at = {name: at for at, name in enumerate(users)}
    ranks = _ranks_of(forest, tasks, task_at)
    word = forest.word
    left = np.full((forest.trees, len(tasks)), ~word(0), word)
    user_nodes, pair_nodes = list[int](), list[int]()
    user_ends, pair_ends = [0], [0]
    for tree in range(forest.trees):
        for node in range(forest.tree_nodes[tree], forest.tree_nodes[tree + 1]):
            column = int(forest.node_column[node])
            name = names[forest.column_feature[column]]
            if name in task_at:
                right = ranks[column] > forest.node_rank[node]
                left[tree, right] &= forest.node_keep[node].astype(word)
            else:
                (pair_nodes if name in pair_at else user_nodes).append(node)
        user_ends.append(len(user_nodes))
        pair_ends.append(len(pair_nodes))
    group = np.zeros(left.shape, np.int64)
    groups = np.ones(forest.trees, np.int64)
    for tree in range(forest.trees):
        found, group[tree] = np.unique(left[tree], return_inverse=True)
        groups[tree] = len(found)
    return Tasks(
        forest=forest,
        user_rows=np.array([user_at.get(name, -1) for name in names], np.int64),
        pair_rows=np.array([pair_at.get(name, -1) for name in names], np.int64),
        user_nodes=np.array(user_nodes, np.int64),
        user_ends=np.array(user_ends, np.int64),
        pair_nodes=np.array(pair_nodes, np.int64),
        pair_ends=np.array(pair_ends, np.int64),
        left=left,
        group=group,
        groups=groups,
    )


def _ranks_of(forest: Forest, tasks: Floats, at: dict[str, int]) -> dict[int, NDArray[np.int64]]:
    found = {}
    for column, feature in enumerate(forest.column_feature):
        name = forest.features[feature]
        if name in at:
            out = np.empty(len(tasks), np.int64)
            limits = forest.thresholds[forest.starts[column] : forest.starts[column + 1]]
            _rank(np.ascontiguousarray(tasks[:, at[name]]), limits, int(forest.column_missing[column]), out)
            found[column] = out
    return found


def raw_scores(tasks: Tasks, users: Floats, pairs: Floats, out: Floats) -> None:
    """Adds the trees' sums to `out` (tasks × users), given `users` (columns × users) and `pairs` (tasks ×
    columns × users), both C-contiguous.

    For one thread; releases the interpreter's lock.
    """
    _score(*tasks.given, users, pairs, out)


def _lowest_bit_typed(typing: Any, word: Any) -> Any:
    """Number of the lowest bit that is set: one instruction."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = builder.cttz(args[0], context.get_constant(types.boolean, True))
        return found if args[0].type.width == 64 else builder.zext(found, context.get_value_type(types.int64))

    return types.int64(word), generate


_lowest_bit: Callable[..., Any] = intrinsic(_lowest_bit_typed)


def _rank_python(values: Any, limits: Any, missing: int, out: Any) -> None:
    """How many thresholds are below each value; a missing one goes where its rule sends it."""
    for row in range(len(values)):
        x = values[row]
        nothing = np.isnan(x)
        if missing >= _ZERO_LEFT:
            nothing = nothing or abs(x) <= _ZERO
        if nothing and missing != _AS_ZERO:
            out[row] = 0 if missing in (_LEFT, _ZERO_LEFT) else len(limits)
            continue
        if nothing:
            x = 0.0
        low, count = 0, len(limits)
        while count > 0:
            half = (count + 1) // 2
            low += half if limits[low + half - 1] < x else 0
            count -= half
        out[row] = low


_rank: Callable[..., None] = numba.njit(nogil=True, cache=True)(_rank_python)


def _score_python(
    column_feature: Any, column_missing: Any, thresholds: Any, starts: Any,
    node_column: Any, node_rank: Any, node_keep: Any, tree_leaves: Any, leaves: Any,
    user_rows: Any, pair_rows: Any, user_nodes: Any, user_ends: Any, pair_nodes: Any, pair_ends: Any,
    left: Any, group: Any, groups: Any, full: Any, no_rank: Any, users: Any, pairs: Any, out: Any,
) -> None:  # fmt: skip
    columns, many = len(column_feature), out.shape[0]
    ranks = np.empty((columns, TILE), no_rank.dtype)
    pair_ranks = np.empty((len(pairs), columns if len(pair_nodes) else 0, TILE), no_rank.dtype)
    words, own = np.empty(TILE, left.dtype), np.empty(TILE, left.dtype)
    value, common = np.empty(TILE), np.empty(TILE)
    for begin in range(0, out.shape[1], TILE):
        size = min(TILE, out.shape[1] - begin)
        wide = (size + 15) // 16 * 16  # whole registers
        for column in range(columns):
            feature, limits = column_feature[column], thresholds[starts[column] : starts[column + 1]]
            row, missing = user_rows[feature], column_missing[column]
            if row >= 0:
                _rank(users[row, begin : begin + size], limits, missing, ranks[column])
            elif pair_rows[feature] >= 0 and len(pair_nodes):
                for task in range(many):
                    seen = pairs[task, pair_rows[feature], begin : begin + size]
                    _rank(seen, limits, missing, pair_ranks[task, column])
        common[:size] = 0.0
        for tree in range(len(tree_leaves) - 1):
            first = tree_leaves[tree]
            words[:wide] = full
            for at in range(user_ends[tree], user_ends[tree + 1]):
                node = user_nodes[at]
                _strike(words, ranks[node_column[node]], node_rank[node], node_keep[node], full, wide)
            if pair_ends[tree] < pair_ends[tree + 1]:
                for task in range(many):
                    own[:wide] = words[:wide]
                    for at in range(pair_ends[tree], pair_ends[tree + 1]):
                        node = pair_nodes[at]
                        mine = pair_ranks[task, node_column[node]]
                        _strike(own, mine, node_rank[node], node_keep[node], full, wide)
                    for i in range(size):
                        out[task, begin + i] += leaves[first + _lowest_bit(own[i] & left[tree, task])]
            elif groups[tree] == 1:
                for i in range(size):
                    common[i] += leaves[first + _lowest_bit(words[i] & left[tree, 0])]
            else:
                for each in range(groups[tree]):
                    mask, found = full, False
                    for task in range(many):
                        if group[tree, task] == each:
                            if not found:
                                mask, found = left[tree, task], True
                                for i in range(size):
                                    value[i] = leaves[first + _lowest_bit(words[i] & mask)]
                            for i in range(size):
                                out[task, begin + i] += value[i]
        for task in range(many):
            for i in range(size):
                out[task, begin + i] += common[i]


def _strike_python(words: Any, ranks: Any, rank: Any, keep: Any, full: Any, wide: int) -> None:
    for i in range(wide):
        words[i] &= keep if ranks[i] > rank else full


_strike: Callable[..., None] = numba.njit(nogil=True, inline="always")(_strike_python)
_score: Callable[..., None] = numba.njit(nogil=True, cache=True)(_score_python)
