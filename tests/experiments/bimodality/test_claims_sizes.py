"""Claims of the bimodality study on hand-made tables: what changes from size to size."""

import copy
import math

import numpy as np
import pytest
from helpers.bimodality_tables import (
    ALL,
    BIMODAL,
    CLOSE,
    CLOSER,
    CLUSTERS,
    CORRELATED,
    COUNTS,
    D_IN,
    DEAD,
    EQUAL,
    FASTER,
    FEW,
    HIGH_PEAK,
    LESSER,
    LOW_PEAK,
    MOST,
    NOISE,
    REAL,
    RISES,
    SEEDS,
    SIZES,
    answers,
    change,
    make,
    only,
    rows,
)

from saejax.experiments.bimodality.claims import COLUMNS, of_bimodality

# What has no value is to be left out, not to be computed with a warning.
pytestmark = pytest.mark.filterwarnings("error")
CLASSES = ("dead", "noise", "real", "idle")


def same(a, b):
    """Whether two values are equal, NaN to NaN."""
    return a == b or (a != a and b != b)


# ------------------------------------------------------------------------------------- correlations


@pytest.mark.parametrize(("value", "answer"), [(0.75, "holds"), (0.65, "does not hold")])
def test_mcs_against_the_next_two_sizes(value, answer):
    tables = make()
    for row in tables["correlation"]:
        if (row["d_sae"], row["larger"], row["largest"]) == (256, 512, 1024):
            row["pearson"] = value + 1e-3 * row["seed"]
    row = only(tables, CORRELATED, "Pearson's correlation, 256 against 512 and 1,024")
    least = only(tables, CORRELATED, "least Pearson's correlation, 256 against any two")
    assert row["answer"] == least["answer"] == answer
    assert row["mean"] == least["mean"] == pytest.approx(value + 1e-3 * np.mean(SEEDS))
    assert answers(tables, CORRELATED, "512 against 1,024 and 2,048") == ["holds"]


def test_the_least_correlation_is_that_of_each_seed():
    tables, pairs = make(), {(512, 1024): 0, (512, 2048): 5, (1024, 2048): 9}
    for row in tables["correlation"]:
        if row["d_sae"] == 256:
            least = pairs[row["larger"], row["largest"]] == row["seed"]
            row["pearson"] = 0.1 + 0.01 * row["seed"] if least else 0.9
    row = only(tables, CORRELATED, "least")
    assert (row["answer"], row["mean"]) == ("does not hold", pytest.approx(0.1 + 0.01 * 14 / 3))
    means = [f"{(1.8 + 0.1 + 0.01 * seed) / 3:.3g}" for seed in SEEDS]
    assert row["details"] == (
        f"means: {means[0]} against 512 and 1,024, {means[1]} against 512 and 2,048, "
        f"{means[2]} against 1,024 and 2,048"
    )
    del tables["correlation"][0]
    assert only(tables, CORRELATED, "least")["seeds"] == 2


@pytest.mark.parametrize(
    ("high", "low", "together", "smaller"),
    [
        (0.5, 0.45, "holds", "holds"),
        (0.45, 0.4, "does not hold", "holds"),
        (0.96, 0.02, "holds", "does not hold"),
        (0.03, 0.95, "holds", "does not hold"),
    ],
)
def test_two_clusters(high, low, together, smaller):
    tables = change(make(), "correlation", 512, n=100)
    change(tables, "correlation", 512, both_high=100 * high, both_low=100 * low)
    got = rows(tables, CLUSTERS, "512 against 1,024 and 2,048")
    assert [row["answer"] for row in got] == [together, smaller]
    assert [row["mean"] for row in got] == [
        pytest.approx(high + low),
        pytest.approx(min(high, low)),
    ]


@pytest.mark.parametrize("missing", ["both_high", "both_low", "n"])
def test_clusters_need_counts_that_the_correlations_may_not_have(missing):
    tables = make()
    for row in tables["correlation"]:
        del row[missing]
    needs = "needs numbers of latents on one side of the cutoff against both"
    assert answers(tables, CLUSTERS) == [f"not measured: {needs}"] * 4
    assert answers(tables, CORRELATED) == ["holds"] * 3


# ------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("high", "rises", "faster"),
    [
        ((200, 300, 400), ("holds",) * 3, ("holds",) * 3),
        ((250, 400, 300), ("holds", "does not hold", "holds"), ("does not hold", "holds", "holds")),
        ((20, 200, 700), ("holds",) * 3, ("holds", "does not hold", "does not hold")),
    ],
)
def test_numbers_of_high_and_low_latents_from_size_to_size(high, rises, faster):
    tables, wanted = make(), dict(zip(SIZES, high, strict=False))
    if high[0] == 20:
        wanted[512] = 140  # 120 of 256 new ones
    change(tables, "split", high=lambda row: wanted[row["d_sae"]] + row["seed"] % 2)
    change(tables, "split", low=lambda row: row["d_sae"] - row["high"])
    up, more = rows(tables, RISES), rows(tables, FASTER)
    assert tuple(row["answer"] for row in up) == rises
    assert tuple(row["answer"] for row in more) == faster
    for (a, b), x, y in zip([(256, 512), (512, 1024), (256, 1024)], up, more, strict=True):
        gained = wanted[b] - wanted[a]
        assert x["measure"] == f"high-MCS latents gained from {a:,} to {b:,}, against 2,048"
        assert (x["mean"], y["mean"]) == (gained, b - a - 2 * gained)


def test_numbers_are_compared_within_a_seed():
    """Seeds differ by much more than sizes do."""
    offset = {0: 0, 5: 100, 9: -150}
    tables = change(make(), "split", high=lambda row: offset[row["seed"]] + row["d_sae"] // 16)
    change(tables, "split", low=lambda row: 2 * offset[row["seed"]] + row["d_sae"] // 2)
    for claim in (RISES, FASTER):
        assert [(row["answer"], row["sd"]) for row in rows(tables, claim)] == [("holds", 0)] * 3


def test_numbers_say_what_they_are_where_the_claim_fails():
    row = rows(make(), RISES)[1]
    assert row["answer"] == "does not hold"
    assert row["details"] == (
        "latents with high MCS, by size: 241 at 256, 301 at 512, 201 at 1,024; "
        "latents with low MCS, by size: 15 at 256, 211 at 512, 823 at 1,024"
    )


@pytest.mark.parametrize(
    ("first", "last", "most", "few"),
    [
        (0.92, 0.2, "holds", "holds"),
        (0.88, 0.2, "does not hold", "holds"),
        (0.92, 0.3, "holds", "does not hold"),
    ],
)
def test_shares_of_the_smallest_and_the_second_largest(first, last, most, few):
    tables = change(make(), "split", high_share=0.5)
    change(tables, "split", 256, high_share=lambda row: first + 1e-3 * row["seed"])
    change(tables, "split", 1024, high_share=lambda row: last + 1e-3 * row["seed"])
    smallest, second = only(tables, MOST), only(tables, FEW)
    assert (smallest["answer"], second["answer"]) == (most, few)
    assert smallest["mean"] == pytest.approx(first + 1e-3 * np.mean(SEEDS))
    assert second["mean"] == pytest.approx(last + 1e-3 * np.mean(SEEDS))
    assert smallest["measure"] == "share of latents with high MCS, 256 against 2,048"
    assert second["measure"] == "share of latents with high MCS, 1,024 against 2,048"


def test_rows_against_another_size_are_no_matter():
    tables = make()
    extra = [
        {**row, "against": 1024, "high_share": 0.0, "high": 0, "low": 9}
        for row in tables["split"]
        if row["d_sae"] < 1024
    ]
    tables["split"] = extra + tables["split"]
    expected = of_bimodality(make(), D_IN)
    for got, row in zip(of_bimodality(tables, D_IN), expected, strict=True):
        assert all(same(got[name], row[name]) for name in COLUMNS)


# ------------------------------------------------------------------------------------- explanations


@pytest.mark.parametrize("name", ["dead", "noise", "real"])
def test_an_explanation_covers_most_low_latents(name):
    claims = {"dead": DEAD, "noise": NOISE, "real": REAL}
    tables = make()
    for other in CLASSES:
        count = 70 if other == name else 10
        change(tables, "explanation", **{f"low_count_{other}": count})
    for own, claim in claims.items():
        row = only(tables, claim)
        assert row["answer"] == ("holds" if own == name else "does not hold")
        assert row["mean"] == pytest.approx(0.7 if own == name else 0.1)
        assert row["measure"].endswith("measured low-MCS latents, sizes 256, 512, 1,024 together")


def test_none_of_the_explanations_may_hold():
    tables = change(make(), "explanation", low_count_dead=10, low_count_noise=10, low_count_idle=70)
    for claim in (DEAD, NOISE, REAL):
        row = only(tables, claim)
        assert row["answer"] == "does not hold"
        assert row["details"].startswith(
            "all shares: dead 0.1, noise 0.1, real 0.09, idle 0.7; share "
        )


def test_sizes_of_a_seed_are_pooled_by_counts():
    """The largest has almost all low-MCS latents: a mean of the sizes' shares would be 2/3."""
    tables = change(
        make(),
        "explanation",
        low_n_measured=5,
        low_count_dead=5,
        low_count_noise=0,
        low_count_real=0,
        low_count_idle=0,
    )
    change(tables, "explanation", 1024, low_n_measured=190, low_count_dead=0, low_count_noise=190)
    dead, noise = only(tables, DEAD), only(tables, NOISE)
    assert (dead["mean"], noise["mean"]) == (pytest.approx(10 / 200), pytest.approx(190 / 200))
    assert (dead["answer"], noise["answer"]) == ("does not hold", "holds")
    assert dead["details"].endswith("share dead, by size: 1 at 256, 1 at 512, 0 at 1,024")
    change(tables, "explanation", 1024, low_count_real=None)
    assert only(tables, DEAD)["mean"] == 1


# ------------------------------------------------------------------------------------- what is
# missing


def test_nothing_gives_nothing():
    assert of_bimodality({}, D_IN) == []
    assert of_bimodality({name: [] for name in make()}, D_IN) == []


def test_one_size_measures_nothing():
    table = of_bimodality(make(sizes=(256,)), D_IN)
    assert [row["claim"] for row in table] == list(ALL)
    three = {CORRELATED, CLUSTERS, RISES, FASTER}
    for row in table:
        needs = "three sizes" if row["claim"] in three else "two sizes"
        number = {"three sizes": 3, "two sizes": 2}[needs]
        assert row["answer"] == f"not measured: needs dictionaries of {number} sizes"
        assert row["seeds"] == 0
        assert math.isnan(row["mean"])


def test_two_sizes_measure_what_takes_no_third():
    table = of_bimodality(make(sizes=(256, 2048)), D_IN)
    missing = {
        row["claim"]: row["answer"] for row in table if row["answer"].startswith("not measured")
    }
    assert set(missing) == {LESSER, CORRELATED, CLUSTERS, RISES, FASTER}
    assert missing[LESSER].endswith("more than 7 low-MCS latents in two sizes")
    (most,), (few,) = (
        [row["measure"] for row in table if row["claim"] == claim] for claim in (MOST, FEW)
    )
    assert most == few == "share of latents with high MCS, 256 against 2,048"


def test_three_sizes_have_one_step_and_one_pair():
    tables = make(sizes=(256, 512, 2048))
    assert [len(rows(tables, claim)) for claim in (RISES, FASTER, CORRELATED, CLUSTERS)] == [
        1,
        1,
        1,
        2,
    ]


def test_one_seed_is_judged_and_says_so():
    table = of_bimodality(make(seeds=(4,)), D_IN)
    assert len(table) == sum(COUNTS)
    assert all(row["answer"].endswith("(one seed)") for row in table)


def without(tables, name):
    return {key: value for key, value in tables.items() if key != name}


NEEDED = {
    "cells": set(),
    "modes": {BIMODAL, LOW_PEAK, HIGH_PEAK},
    "emd": {CLOSE, EQUAL, CLOSER, LESSER},
    "law": set(),
    "correlation": {CORRELATED, CLUSTERS},
    "split": {RISES, FASTER, MOST, FEW},
    "explanation": {DEAD, NOISE, REAL},
}


@pytest.mark.parametrize("name", list(NEEDED))
def test_a_missing_table_silences_its_own_claims_alone(name):
    nulls = make()
    keys = {"l1", "d_sae", "against", "seed", "larger", "largest"}
    for row in nulls[name]:
        row |= dict.fromkeys(set(row) - keys)
    whole = of_bimodality(make(), D_IN)
    for tables in (without(make(), name), {**make(), name: []}, nulls):
        got = of_bimodality(tables, D_IN)
        assert [row["claim"] for row in got] == [row["claim"] for row in whole]
        for row, before in zip(got, whole, strict=True):
            if row["claim"] in NEEDED[name]:
                assert row["answer"].startswith("not measured: needs ")
                assert row["claimed"] == row["details"] == ""
                assert row["measure"]
            else:
                assert all(same(row[column], before[column]) for column in COLUMNS)


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_a_seed_without_a_value_is_left_out(nothing):
    tables = make()
    keys = {"l1", "d_sae", "against", "seed", "larger", "largest"}
    for of in tables.values():
        for row in of:
            if row["seed"] == 5:
                row |= dict.fromkeys(set(row) - keys, nothing)
    table = of_bimodality(tables, D_IN)
    assert len(table) == sum(COUNTS)
    assert {row["seeds"] for row in table} == {2}
    assert all("nan" not in row["details"] for row in table)


def test_tables_are_left_as_they_are():
    tables = make()
    before = copy.deepcopy(tables)
    of_bimodality(tables, D_IN)
    assert tables == before


def test_what_cannot_be_placed_is_refused():
    tables = make()
    tables["split"].append({**tables["split"][0]})
    with pytest.raises(
        ValueError, match=r"split: got \(0.001, 256, 2048, 0\) twice, allowed: each l1"
    ):
        of_bimodality(tables, D_IN)
    tables = make()
    del tables["emd"][3]["against"]
    with pytest.raises(
        ValueError, match="emd: got a row without against, allowed: l1, d_sae, against"
    ):
        of_bimodality(tables, D_IN)
    with pytest.raises(ValueError, match="d_in: got 1, allowed: 2 or more"):
        of_bimodality(make(), 1)
