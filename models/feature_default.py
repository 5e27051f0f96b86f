"""The usual features of users, as a declared set: recency, rhythm, rates, shares, contacts and responses.

Sums over a window are stated per week of the part of it that the records cover, and tenure as a share
of the records' length: otherwise a year's sum would grow with the calendar while the records are young,
and a model would learn the date instead of the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernel.definitions import parse
from kernel.events import OFFER
from models.feature_definitions import FeatureSet


def usual_features(
    windows: Sequence[str], numbers: Sequence[str], labels: Sequence[str], contacts: Sequence[str]
) -> FeatureSet:
    """`numbers`: numeric fields of purchases, amount first; `labels`: of item, place, category those that are
    there; `contacts`: of treatment, response those that are."""
    bought = {"event": "purchase"}
    features: list[dict[str, Any]] = [
        {**bought, "since": "last", "name": "recency_days"},
        {**bought, "since": "first", "share": True, "name": "tenure_share"},
        {**bought, "agg": "count", "per": "week of life", "name": "purchases_lived"},
        *({**bought, "agg": "distinct", "of": each, "name": f"{each}_distinct"} for each in labels),
    ]
    for window in windows:
        rate = {**bought, "within": window, "per": "week"}
        features.append({**rate, "agg": "count", "name": "purchases"})
        for number in numbers:
            features.append({**rate, "agg": "sum", "of": number, "name": number})
            if number != "amount":
                some = {"agg": "lines", "where": {number: {"gt": 0}}}
                features.append({**rate, **some, "name": f"{number}_lines"})
    for window in windows:
        amount = f"amount_{window}"
        features.append({"ratio": amount, "over": f"purchases_{window}", "name": f"basket_{window}"})
        for number in numbers[1:]:
            part = f"{number}_{window}"
            whole = {"over": [amount, part], "plus": [0.0, 0.1]}
            features.append({"ratio": part, **whole, "name": f"{number}_share_{window}"})
    if len(windows) > 1:
        recent, often = f"amount_{windows[0]}", f"amount_{windows[-1]}"
        features.append(
            {"ratio": recent, "over": often, "plus": [0.1, 0.1], "log": True, "name": "amount_trend"}
        )
    parts = ["gap_mean_days", "gap_spread_days", "lateness"]
    features.append({**bought, "rhythm": True, "bare": True, "parts": parts})
    for event in contacts:
        earlier = {"event": event, "before": True}  # an offer does not foretell itself
        features += [
            {**earlier, "agg": "distinct", "of": OFFER, "name": f"{event}s_offers"},
            {**earlier, "agg": "lines", "name": f"{event}s_count"},
            {**earlier, "since": "last", "name": f"{event}s_recency_days"},
        ]
    if len(contacts) == 2:
        # one pseudo-offer at a tenth of a response: a young record is close to the average one
        share = {"ratio": "responses_offers", "over": "treatments_offers", "plus": [0.1, 1.0]}
        features.append({**share, "name": "responses_share"})
    raw = {"name": "usual", "version": 1, "among": "purchase", "settled": True, "features": features}
    return parse(FeatureSet, raw, "features usual")
