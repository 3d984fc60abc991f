"""Claims of the GPT-2 study on hand-made tables, with effects planted in both directions."""

import copy
import math

import numpy as np
import pytest
from scipy import stats

from saejax.experiments.gpt2 import published as gpt2_published
from saejax.experiments.gpt2.claims import COLUMNS, KEYS, of_gpt2, values

# What has no value is to be left out, not to be computed with a warning.
pytestmark = pytest.mark.filterwarnings("error")

L1, RATIOS, WAYS, SEEDS = (0.3, 0.1), (8.0, 4.0), ("off", "on", "ghost"), (0, 5, 9)
LABELLERS = ("offline", "a model")
nan = math.nan

FEWER = "reviving dead latents lowers their share"
LARGER = "larger dictionaries have a larger share of dead latents"
SMALLER = "a smaller l1 hardly lowers the share of dead latents"
CLUSTERS = "labelled latents fall into two clusters, those of high and those of low selectivity"
MOST = "most labelled latents are monosemantic"
# Rows of each: (ways x l1 x ratios), l1, 1, (ways x l1), (labellers x ways x l1).
COUNTS = {FEWER: 8, LARGER: 2, SMALLER: 1, CLUSTERS: 6, MOST: 12}


def make(l1=L1, ratios=RATIOS, ways=WAYS, seeds=SEEDS, labellers=LABELLERS):
    """Tables of which all claims hold: a little differs from seed to seed."""
    tables = {name: [] for name in KEYS}
    for k in l1:
        for ratio in ratios:
            for way in ways:
                for seed in seeds:
                    at = {"l1": k, "ratio": ratio, "resample": way, "seed": seed}
                    little = 0.001 * (seed - 5)
                    dead = {"off": 0.3 + 0.02 * ratio, "on": 0.1, "ghost": 0.05}[
                        way
                    ] + little * ratio
                    tables["cells"].append(
                        {**at, "dead": dead, "within": 0.2 + little, "across": -0.1}
                    )
                    for labeller in labellers:
                        rate = {"offline": 0.6, "a model": 0.8}[labeller] + little
                        tables["rates"].append({**at, "labeller": labeller, "rate": rate})
    return tables


def change(tables, name, of, **where):
    """Columns of some rows anew: what a function gives from the old row."""
    for row in tables[name]:
        if where.items() <= row.items():
            row |= of(row)
    return tables


def rows(tables, claim, **where):
    return [
        row for row in of_gpt2(tables) if row["claim"] == claim and where.items() <= row.items()
    ]


def answers(tables, claim, **where):
    return [row["answer"] for row in rows(tables, claim, **where)]


def by_hand(figures, limit, side):
    """Mean, standard deviation and answer of figures of three or more seeds."""
    d = np.asarray(figures) - limit if side == "above" else limit - np.asarray(figures)
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5
    answer = "holds" if d.mean() > half else "does not hold" if d.mean() <= -half else "unclear"
    return np.mean(figures), np.std(figures, ddof=1), answer


def check(row, figures, limit=0.0, side="above"):
    mean, sd, answer = by_hand(figures, limit, side)
    assert (row["mean"], row["sd"]) == (pytest.approx(mean), pytest.approx(sd, abs=1e-9))
    assert (row["answer"], row["seeds"]) == (answer, len(figures))
    assert row["claimed"] == f"{side} {limit:g}"


# ------------------------------------------------------------------------------------- all claims


def test_every_claim_has_its_rows():
    table = of_gpt2(make())
    assert (
        table.columns
        == list(COLUMNS)
        == [
            "claim",
            "published",
            "l1",
            "resample",
            "measure",
            "claimed",
            "mean",
            "sd",
            "seeds",
            "answer",
        ]
    )
    claims = [row["claim"] for row in table]
    assert {claim: claims.count(claim) for claim in dict.fromkeys(claims)} == COUNTS
    keys = [(row["claim"], row["l1"], row["resample"], row["measure"]) for row in table]
    assert len({*keys}) == len(keys)
    assert {row["answer"] for row in table} == {"holds"}
    assert {row["seeds"] for row in table} == {3}


def test_rows_say_what_the_text_has():
    said = {(row["claim"], row["resample"]): row["published"] for row in of_gpt2(make())}
    assert said[FEWER, "on"] == "by 8 to 23 points with resampling"
    assert said[FEWER, "ghost"] == ""
    assert said[LARGER, "off"] == "by 20 to 22 points from expansion 4 to 32"
    assert said[SMALLER, "off"] == "0.4 to 4 points more with 1e-4 than with 1e-2"
    assert (said[MOST, "off"], said[MOST, "on"]) == ("78 to 86 %", "72 to 88 %")
    assert said[MOST, "ghost"] == ""


def test_what_the_text_has_is_what_its_tables_say():
    off, on = gpt2_published.GPT2["dead"]["off"], gpt2_published.GPT2["dead"]["on"]
    fewer = np.concatenate([np.subtract(off[k], on[k]) for k in off])
    assert [math.floor(fewer.min()), round(fewer.max())] == [8, 23]
    assert sorted(round(row[-1] - row[0]) for row in off.values()) == [20, 22]
    more = np.subtract(off[0.0001], off[0.01])
    assert (round(more.min(), 1), round(more.max())) == (0.4, 4)
    for way, ends in {"off": (78, 86), "on": (72, 88)}.items():
        shares = np.concatenate([*map(np.array, gpt2_published.GPT2["monosemantic"][way].values())])
        assert (shares.min(), shares.max()) == ends


def test_tables_are_left_as_they_are():
    tables = make()
    before = copy.deepcopy(tables)
    of_gpt2(tables)
    assert tables == before


def test_the_order_of_the_rows_of_a_table_means_nothing():
    tables = make()
    turned = {name: own[::-1] for name, own in tables.items()}

    def by_key(table):
        return sorted(
            (r["claim"], r["l1"] or 0, r["resample"], r["measure"], r["mean"]) for r in table
        )

    assert by_key(of_gpt2(turned)) == by_key(of_gpt2(tables))


# --------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize(
    ("on", "answer"),
    [
        ((0.1, 0.12, 0.11), "holds"),
        ((0.5, 0.52, 0.51), "does not hold"),
        ((0.2, 0.5, 0.4), "unclear"),
    ],
)
def test_reviving_is_judged_seed_by_seed_in_points(on, answer):
    by_seed = dict(zip(SEEDS, on, strict=True))
    tables = change(
        make(),
        "cells",
        lambda row: {"dead": by_seed[row["seed"]]},
        l1=0.1,
        ratio=4.0,
        resample="on",
    )
    found = rows(tables, FEWER, l1=0.1, resample="on")
    off = [0.38 + 0.004 * (seed - 5) for seed in SEEDS]
    (row,) = (row for row in found if row["measure"].endswith("expansion 4"))
    check(row, 100 * (np.array(off) - on))
    assert row["answer"] == answer
    assert row["measure"] == "% dead without, less % dead with, expansion 4"
    others = [r["answer"] for r in rows(tables, FEWER) if r not in found]
    assert others == ["holds"] * 6


def test_no_change_at_all_does_not_hold():
    tables = make()
    off = {
        (r["l1"], r["ratio"], r["seed"]): r["dead"]
        for r in tables["cells"]
        if r["resample"] == "off"
    }
    change(
        tables, "cells", lambda r: {"dead": off[r["l1"], r["ratio"], r["seed"]]}, resample="ghost"
    )
    assert answers(tables, FEWER, resample="ghost") == ["does not hold"] * 4
    assert answers(tables, FEWER, resample="on") == ["holds"] * 4


def test_larger_is_the_largest_expansion_less_the_smallest():
    tables = make(ratios=(8.0, 4.0, 16.0))
    for row in rows(tables, LARGER):
        assert row["measure"] == "% dead at expansion 16 less 4"
        check(row, [100 * (0.02 * 12 + 0.001 * (seed - 5) * 12) for seed in SEEDS])
    change(tables, "cells", lambda row: {"dead": 0.01}, ratio=16.0, l1=0.1)
    assert answers(tables, LARGER) == ["does not hold", "holds"]


@pytest.mark.parametrize(
    ("more", "answer"), [(0.0, "holds"), (-0.2, "holds"), (0.06, "does not hold")]
)
def test_a_smaller_l1_helps_where_it_lowers_by_more_than_five_points(more, answer):
    tables = change(
        make(), "cells", lambda row: {"dead": row["dead"] + more}, l1=0.3, resample="off"
    )
    (row,) = rows(tables, SMALLER)
    check(row, [100 * more] * 3, 5.0, "below")
    assert row["answer"] == answer
    assert row["measure"] == "% dead at l1 0.3 less 0.1"


def test_clusters_are_the_difference_of_correlations_over_expansions():
    tables = change(make(), "cells", lambda row: {"across": 0.9}, l1=0.1, resample="on", ratio=8.0)
    for row in rows(tables, CLUSTERS):
        within = np.array([0.2 + 0.001 * (seed - 5) for seed in SEEDS])
        changed = (row["l1"], row["resample"]) == (0.1, "on")
        check(row, within - (0.4 if changed else -0.1))
        assert row["answer"] == ("does not hold" if changed else "holds")


def test_monosemantic_is_more_than_half_by_every_labeller():
    tables = change(
        make(), "rates", lambda row: {"rate": 0.3}, labeller="offline", l1=0.3, ratio=4.0
    )
    for row in rows(tables, MOST):
        offline = "by offline" in row["measure"]
        rate = np.array([(0.6 if offline else 0.8) + 0.001 * (seed - 5) for seed in SEEDS])
        if offline and row["l1"] == 0.3:
            rate = (rate + 0.3) / 2
        check(row, 100 * rate, 50.0)
    assert answers(tables, MOST, l1=0.3).count("does not hold") == 3


def test_one_seed_is_judged_and_says_so():
    assert {row["answer"] for row in of_gpt2(make(seeds=(4,)))} == {"holds (one seed)"}


# ------------------------------------------------------------------------------- what is not there


@pytest.mark.parametrize("nothing", [None, nan])
def test_what_has_no_value_is_not_measured(nothing):
    tables = change(make(), "cells", lambda _: {"dead": nothing, "within": nothing})
    change(tables, "rates", lambda _: {"rate": nothing})
    for row in of_gpt2(tables):
        assert row["answer"] == "not measured: no seed has a value"
        assert row["seeds"] == 0
        assert math.isnan(row["mean"])


@pytest.mark.parametrize("nothing", [None, nan])
def test_a_seed_without_a_value_is_left_out(nothing):
    """A frozen SAE has no share of dead latents: its seed does not count where it is needed."""
    tables = change(make(), "cells", lambda _: {"dead": nothing}, seed=5, ratio=8.0, resample="off")
    n = {row["measure"]: row["seeds"] for row in of_gpt2(tables)}
    assert n["% dead without, less % dead with, expansion 8"] == 2
    assert n["% dead without, less % dead with, expansion 4"] == 3
    assert n["% dead at expansion 8 less 4"] == n["% dead at l1 0.3 less 0.1"] == 2
    assert n["correlation within less across, mean over expansions"] == 3


def test_a_row_that_is_missing_is_like_one_without_a_value():
    tables = make()
    gone = {"l1": 0.1, "ratio": 4.0, "resample": "on", "seed": 9}
    tables["cells"] = [row for row in tables["cells"] if not gone.items() <= row.items()]
    seeds = {(r["l1"], r["measure"]): r["seeds"] for r in rows(tables, FEWER, resample="on")}
    measure = "% dead without, less % dead with, expansion"
    assert seeds == {(0.1, f"{measure} 4"): 2} | {
        (k, f"{measure} {e}"): 3 for k, e in ((0.1, 8), (0.3, 4), (0.3, 8))
    }


@pytest.mark.parametrize(
    ("kind", "claims"),
    [
        ({"ways": ("on", "ghost")}, {CLUSTERS, MOST}),
        ({"ways": ("off",)}, {LARGER, SMALLER, CLUSTERS, MOST}),
        ({"l1": (0.1,)}, {FEWER, LARGER, CLUSTERS, MOST}),
        ({"ratios": (4.0,)}, {FEWER, SMALLER, CLUSTERS, MOST}),
        ({"labellers": ()}, {FEWER, LARGER, SMALLER, CLUSTERS}),
        ({"seeds": ()}, set()),
    ],
)
def test_what_there_is_nothing_to_compare_with_is_not_claimed(kind, claims):
    assert {row["claim"] for row in of_gpt2(make(**kind))} == claims


def test_no_tables_make_no_rows():
    assert of_gpt2({}) == []


def test_values_have_their_place_whatever_the_order():
    table = [{"seed": s, "ratio": r, "l1": 1, "x": 10 * s + r} for r, s in ((2, 1), (1, 2), (1, 1))]
    got = values(table, "x", (2, 1), (1, 2), l1=1)
    np.testing.assert_array_equal(got, [[21, nan], [11, 12]])
    assert values([], "x", (), (1, 2)).shape == (0, 2)


@pytest.mark.parametrize("name", list(KEYS))
def test_what_cannot_be_placed_is_refused(name):
    tables = make()
    row = dict.fromkeys(KEYS[name], 1)
    tables[name] = [row, {**row, "seed": 2}, row]
    with pytest.raises(
        ValueError, match=rf"^{name}: got \(1, 1, 1, 1.*\) twice, allowed: each l1, ratio"
    ):
        of_gpt2(tables)
    for key in KEYS[name]:
        for broken in ({**row, key: None}, {k: v for k, v in row.items() if k != key}):
            with pytest.raises(
                ValueError, match=f"^{name}: got a row without {key}, allowed: l1, ratio"
            ):
                of_gpt2({**make(), name: [broken]})


# ----------------------------------------------------------------------------------- the text's own

# Typed from the text's tables once more: expansion 4, 8, 16, 32.
DEAD_OFF = {1e-2: (13.1, 26.3, 29.3, 35.2), 1e-4: (15.4, 27.5, 33.4, 35.6)}
DEAD_ON = {1e-2: (4.8, 3.9, 15.7, 26.97), 1e-4: (5.24, 4.51, 11.72, 23.43)}
DELTA = {1e-2: (8.3, 22.4, 13.6, 8.23), 1e-4: (10.16, 22.99, 21.68, 12.17)}
MONOSEMANTIC_OFF = {1e-2: (82, 86, 84, 86), 1e-4: (82, 82, 80, 78)}
MONOSEMANTIC_ON = {1e-2: (72, 78, 88, 80), 1e-4: (80, 78, 78, 76)}


def test_published_numbers_are_the_texts():
    assert gpt2_published.GPT2_EXPANSION == (4, 8, 16, 32)
    assert gpt2_published.GPT2 == {
        "dead": {"off": DEAD_OFF, "on": DEAD_ON},
        "monosemantic": {"off": MONOSEMANTIC_OFF, "on": MONOSEMANTIC_ON},
    }


def test_claims_on_the_texts_own_tables_give_its_table_of_differences():
    tables = {
        "cells": [
            {"l1": k, "ratio": r, "resample": way, "seed": 0, "dead": share / 100}
            for way, table in (("off", DEAD_OFF), ("on", DEAD_ON))
            for k, shares in table.items()
            for r, share in zip((4, 8, 16, 32), shares, strict=True)
        ]
    }
    for k, differences in DELTA.items():
        found = [row["mean"] for row in rows(tables, FEWER, l1=k)]
        np.testing.assert_allclose(found, differences, atol=1e-9)
    assert set(answers(tables, FEWER) + answers(tables, LARGER)) == {"holds (one seed)"}
    assert answers(tables, SMALLER) == ["holds (one seed)"]
