from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from insight.cell_sociology import derive_sociology, level_number
from insight.cell_traits import readable
from insight.cluster_choice import find_clusters
from insight.cluster_names import name_clusters
from insight.clusters import NO_PURCHASES, ClusterModel, Clusters, derive_clusters
from kernel.errors import BadInput, NotFound

LABELS = {"mix:TEA": "tea", "mix:BREAD": "bread", "per_week": "baskets a week", "basket": "basket size"}


def planted(seed: int, size: int = 80) -> tuple[pl.DataFrame, list[int]]:
    """Three kinds of shopper: daily small tea, weekly big bread, discount seekers of both."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.repeat([0, 1, 2], size))
    tea = np.array([0.85, 0.1, 0.5])[kinds] + rng.normal(0, 0.04, 3 * size)
    return (
        pl.DataFrame(
            {
                "user": np.arange(3 * size),
                "baskets": np.full(3 * size, 20),
                "per_week": np.array([6, 1, 1.5])[kinds] * np.exp(rng.normal(0, 0.2, 3 * size)),
                "basket": np.array([5, 60, 20])[kinds] * np.exp(rng.normal(0, 0.2, 3 * size)),
                "weekend": rng.uniform(0.2, 0.4, 3 * size),
                "discount": np.array([0.05, 0.05, 0.4])[kinds] + rng.normal(0, 0.02, 3 * size),
                "mix:TEA": tea.clip(0, 1),
                "mix:BREAD": (1 - tea).clip(0, 1),
            }
        ),
        kinds.tolist(),
    )


def cluster(
    traits: pl.DataFrame, most: int = 6, seed: int = 3, model: ClusterModel | None = None
) -> Clusters:
    users = pl.concat([traits.select("user"), pl.DataFrame({"user": [-1]})])
    return derive_clusters(
        users=users,
        traits=traits,
        labels=LABELS,
        sociology=(),
        max_clusters=most,
        seed=seed,
        model=model,
    )


def test_planted_kinds_are_found_and_named_by_what_they_do() -> None:
    traits, kinds = planted(1)
    found = cluster(traits)
    assert found.tried.filter("chosen")["clusters"].to_list() == [3]
    names = dict(found.members.rows())
    pairs = {(kind, names[user]) for user, kind in enumerate(kinds)}
    assert len(pairs) == 3
    called = dict(pairs)
    assert called[0] == "tea, frequent small baskets, few discounts"
    assert called[1].startswith("bread")
    assert "big baskets" in called[1]
    assert "discount seekers" in called[2]
    assert names[-1] == NO_PURCHASES
    assert found.facts["size"].sum() == found.members.height
    assert found.facts["description"].null_count() == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_does_not_come_back_is_no_cluster(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(400, 8))
    centres, tried = find_clusters(noise, 6, seed=1)
    assert len(centres) == 1
    assert not tried["chosen"].any()


def test_as_many_as_asked_for_with_their_stability() -> None:
    points = np.random.default_rng(5).normal(size=(300, 3))
    centres, tried = find_clusters(points, 8, 1, exactly=20)
    assert len(set(centres)) == 20
    assert tried["clusters"].to_list() == [20]
    assert tried["chosen"].to_list() == [True]
    # a cloud cut in twenty does not come back in the same pieces
    assert tried["stability"][0] < 0.75
    assert tried["smallest"][0] > 0
    far = np.repeat(np.eye(3) * 100, 50, axis=0) + points[:150] / 10
    kept, three = find_clusters(far, 8, 1, exactly=3)
    assert len(kept) == 3
    assert three["stability"][0] == pytest.approx(1.0)
    same, _ = find_clusters(np.zeros((40, 2)), 8, 1, exactly=5)
    assert len(same) == 1


def test_a_few_odd_users_are_no_cluster() -> None:
    points = np.random.default_rng(3).normal(size=(400, 2))
    points[:200, 0] += 8
    points[:4] += 60
    centres, tried = find_clusters(points, 4, seed=1)
    assert tried.filter("chosen").height == (len(centres) > 1)
    assert tried.filter("chosen").filter(pl.col("smallest") < 0.02).is_empty()
    assert tried.filter(pl.col("smallest") < 0.02).height


def test_a_kept_model_keeps_names_and_assigns_alike() -> None:
    traits, _ = planted(1)
    first = cluster(traits)
    again = cluster(traits, seed=99, model=first.model)
    assert again.members.equals(first.members)
    assert again.tried.is_empty()
    half = cluster(traits.filter(pl.col("user") % 2 == 0), model=first.model)
    both = half.members.join(first.members, on="user", suffix="_first")
    assert (both["cluster"] == both["cluster_first"]).all()


def test_unknown_traits_and_too_few_users_are_no_error() -> None:
    traits, _ = planted(1)
    few = traits.head(3).with_columns(pl.lit(None, pl.Float64).alias("mix:TEA"))
    assert set(cluster(few).members["cluster"]) == {"all shoppers", NO_PURCHASES}
    holes = traits.with_columns(
        pl.when(pl.col("user") % 5 > 0).then("mix:TEA"), pl.when(pl.col("user") % 7 > 0).then("discount")
    )
    assert cluster(holes).members["cluster"].null_count() == 0


def test_names_differ_even_where_the_same_traits_stand_out() -> None:
    alike = [
        [("per_week", 1.0, 2.0)],
        [("per_week", 1.2, 2.2)],
        [("per_week", -1.0, 0.5)],
        [("per_week", 1.1, 2.1)],
    ]
    names = name_clusters(alike, LABELS)
    assert len(set(names)) == 4
    assert not any("cluster" in name for name in names)


def test_a_name_grows_until_it_differs_and_says_no_word_twice() -> None:
    labels = {"mix:A": "meat", "mix:B": "packaged meat", "mix:C": "deli"}
    alike = [("mix:A", 2.0, 3.0), ("mix:B", 1.5, 2.0), ("weekend", 1.0, 1.5), ("discount", 0.9, 1.5)]
    effects = [[*alike, ("evening", 0.5, 1.2)], [*alike, ("evening", -0.5, 0.8)], [("mix:C", 1.0, 2.0)]]
    assert name_clusters(effects, labels) == [
        "meat, weekends, discount seekers, evenings",
        "meat, weekends, discount seekers, daytime",
        "deli",
    ]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("MEAT-PCKGD", "packaged meat"),
        ("DRUG GM", "drug general goods"),
        ("Tea_Leaves", "tea leaves"),
        ("R&D", "r&d"),
        ("??", "??"),
        ("茶", "茶"),
    ],
)
def test_categories_are_readable(code: str, words: str) -> None:
    assert readable(code) == words


@pytest.mark.parametrize(
    ("level", "number"),
    [
        ("Under 15K", 7_500), ("15-24K", 19_500), ("250K+", 250_000), ("65+", 65), ("5+", 5), ("0", 0),
        ("19-24", 21.5), ("$1,000 - $2,000", 1_500), ("100K-1M", 550_000), ("3 or more", 3),
        ("18 to 24 years", 21),
        ("2 Adults Kids", None), ("Homeowner", None), ("", None), ("A1", None), ("2024-01-01", None),
    ],
)  # fmt: skip
def test_ordered_levels_become_numbers(level: str, number: float | None) -> None:
    assert level_number(level) == number


def test_sociology_is_numbers_levels_and_unknowns() -> None:
    users = pl.DataFrame({"user": [1, 2, 3]})
    fields = pl.DataFrame(
        {"user": [3, 1], "user.age": ["65+", "19-24"], "user.home": ["Renter", "Owner"], "user.kids": [2, 0]}
    )
    frame, facts = derive_sociology(users, fields, ["user.age", "user.home", "user.kids"])
    assert frame["user.age"].to_list() == [21.5, None, 65.0]
    assert frame["user.kids"].to_list() == [0.0, None, 2.0]
    assert frame["user.home=Renter"].to_list() == [0.0, None, 1.0]
    assert [fact.label for fact in facts] == ["age", "home: owner", "home: renter", "kids"]
    with pytest.raises(NotFound, match=r"did you mean 'user\.age'"):
        derive_sociology(users, fields, ["user.agee"])
    with pytest.raises(BadInput, match="two rows"):
        derive_sociology(users, pl.concat([fields, fields]), ["user.age"])
    with pytest.raises(BadInput, match="not text"):
        derive_sociology(users, fields.with_columns(pl.lit([1]).alias("user.age")), ["user.age"])
