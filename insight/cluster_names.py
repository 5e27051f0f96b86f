"""Names and sentences for clusters, made of what sets each apart from the other buyers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

#: standard deviations from the others at which a trait is worth a word
WORTH_A_WORD = 0.35
#: words in a name: at most so many phrases, of them so many categories
MOST_PHRASES, MOST_GOODS = 3, 2
_PHRASES = {
    "discount": ("discount seekers", "few discounts"),
    "weekend": ("weekends", "weekdays"),
    "evening": ("evenings", "daytime"),
    "places": ("several places", "few places"),
}
_VISITS = {"per_week": ("frequent", "occasional"), "basket": ("big", "small")}


def set_apart(
    traits: pl.DataFrame, labels: NDArray[np.int64], cluster: int
) -> list[tuple[str, float, float]]:
    """(column, effect, ratio) by falling |effect|: the cluster's mean less the others', in standard
    deviations, and over the others'. What is known of a part of the cluster counts for that part."""
    inside, found = labels == cluster, []
    for column in traits.columns:
        values = traits[column].cast(pl.Float64).to_numpy()
        known = np.isfinite(values)
        here, there = values[known & inside], values[known & ~inside]
        spread = values[known].std() if known.any() else 0.0
        if here.size and there.size and spread > 1e-9:
            part = here.size / inside.sum()
            effect = round(float((here.mean() - there.mean()) / spread * part), 6)
            ratio = float(here.mean() / there.mean()) if there.mean() > 0 else float("inf")
            found.append((column, effect, ratio))
    return sorted(found, key=lambda each: (-abs(each[1]), each[0]))


def name_clusters(effects: Sequence[list[tuple[str, float, float]]], labels: Mapping[str, str]) -> list[str]:
    """A name for each cluster, all different. `labels`: column → words, for goods and sociology."""
    if len(effects) == 1:
        return ["all shoppers"]
    phrases = [_phrases(each, labels) for each in effects]
    lengths = [
        max(1, min(MOST_PHRASES, sum(abs(size) >= WORTH_A_WORD for _, size in each))) for each in phrases
    ]
    names = [_join(each, length) for each, length in zip(phrases, lengths, strict=True)]
    for _ in range(max(len(each) for each in phrases)):
        counts = Counter(names)
        if max(counts.values()) == 1:
            return names
        lengths = [n + (counts[name] > 1) for n, name in zip(lengths, names, strict=True)]
        names = [_join(each, length) for each, length in zip(phrases, lengths, strict=True)]
    # the same words throughout: the strength of the first trait tells them apart
    seen: Counter[str] = Counter()
    for i in sorted(range(len(names)), key=lambda i: (-abs(phrases[i][0][1]) if phrases[i] else 0.0, i)):
        seen[names[i]] += 1
        repeat = seen[names[i]]
        names[i] += "" if repeat == 1 else ", less so" if repeat == 2 else f", less so ({repeat - 1} steps)"
    return names


def _phrases(effects: list[tuple[str, float, float]], labels: Mapping[str, str]) -> list[tuple[str, float]]:
    """Words with their effect, strongest first; pace and size of baskets make one phrase."""
    strength = {column: effect for column, effect, _ in effects}
    visits = {column: strength.get(column, 0.0) for column in _VISITS}
    told, goods, phrases = False, 0, []
    said: set[str] = set()
    for column, effect, _ in effects:
        if column in _VISITS:
            if not told:
                phrases.append((_visits(visits), effect))
            told = True
        elif column in _PHRASES:
            phrases.append((_PHRASES[column][effect < 0], effect))
        elif column.startswith("mix:"):
            # what they buy says more than what they do not
            words = set(labels[column].split())
            if effect > 0 and goods < MOST_GOODS and not words & said:
                phrases.append((labels[column], effect))
                goods, said = goods + 1, said | words
        elif column in labels:
            phrases.append((f"{'more' if effect > 0 else 'less'} {labels[column]}", effect))
    return phrases


def _visits(strength: Mapping[str, float]) -> str:
    words = [_VISITS[c][s < 0] for c, s in strength.items() if abs(s) >= WORTH_A_WORD]
    if not words:
        column = max(strength, key=lambda each: abs(strength[each]))
        words = [_VISITS[column][strength[column] < 0]]
    return f"{' '.join(words)} {'baskets' if words[-1] in _VISITS['basket'] else 'visits'}"


def _join(phrases: list[tuple[str, float]], length: int) -> str:
    """Goods first, joined by `&`; then how they shop."""
    shopping = {*_flat(_PHRASES)}
    chosen = [words for words, _ in phrases[:length]]
    habits = [w for w in chosen if w in shopping or w.endswith((" baskets", " visits"))]
    goods = [w for w in chosen if w not in habits]
    return ", ".join(([" & ".join(goods)] if goods else []) + habits) or "typical shoppers"


def _flat(pairs: Mapping[str, tuple[str, str]]) -> list[str]:
    return [word for pair in pairs.values() for word in pair]
