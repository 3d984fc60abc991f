"""Claims of the baselines study on fits with planted effects."""

import numpy as np
import pytest
from helpers.grid_result import RARITY, SEEDS, SPEC, make, noise, rows

from saejax.experiments.baselines.claims import of_baselines
from saejax.experiments.grid.claims import of_grid

# What has no rank or no mean is to be left out, not to be computed with a warning.
pytestmark = pytest.mark.filterwarnings("error")
SAES = "SAEs with the right l1 beat k-means"
LEVELS = "k-means levels off with data size"


# ---------------------------------------------------------------------------------------- baselines


def fits(mmcs, dataset="uncorrelated", seeds=SEEDS, rarity=0.5, turned=0.01):
    """Fits with little noise; `mmcs` is method -> size -> value, to which either sign adds
    `turned`."""
    rng = np.random.default_rng(0)
    return [
        {
            "dataset": dataset,
            "method": method,
            "n_samples": n,
            "seed": seed,
            "mmcs": value + rng.normal(scale=1e-4),
            "mmcs_either_sign": value + turned + rng.normal(scale=1e-4),
            "rarity_correlation": rarity + rng.normal(scale=1e-4),
        }
        for method, sizes in mmcs.items()
        for n, value in sizes.items()
        for seed in seeds
    ]


def change(table, method, n, seed, **values):
    (row,) = [r for r in table if (r["method"], r["n_samples"], r["seed"]) == (method, n, seed)]
    row.update(values)


def test_kmeans_against_pca_and_ica_at_the_largest_common_size():
    own = fits(
        {
            "kmeans": {1000: 0.1, 4000: 0.5, 16000: 0.0},
            "pca": {1000: 0.2, 4000: 0.2},
            "ica": {1000: 0.2, 4000: 0.6, 16000: 0.6},
        }
    )
    change(own, "kmeans", 16000, 5, mmcs=np.nan)
    table = of_baselines(own)
    pca, ica = (rows(table, f"k-means beats {name}")[0] for name in ("PCA", "ICA"))
    assert pca["mean"] == pytest.approx(0.3, abs=1e-3)
    assert (pca["seeds"], pca["answer"], pca["details"]) == (3, "holds", "")
    assert "4,000 samples" in pca["measure"]
    assert ica["mean"] == pytest.approx(-0.6, abs=1e-3)
    assert (ica["seeds"], ica["answer"]) == (2, "does not hold")
    assert ica["details"] == "lead, by samples: -0.1 at 1,000, -0.1 at 4,000, -0.6 at 16,000"
    assert pca["published_at_d_in_256"] == "k-means 0.56, PCA 0.17"
    assert ica["published_at_d_in_256"] == "k-means 0.56, ICA 0.17"


def test_seeds_of_one_method_alone_are_not_paired():
    own = fits({"kmeans": {100: 0.5}}) + fits({"pca": {100: 0.2}}, seeds=(5, 7))
    for row in rows(of_baselines(own), "k-means beats PCA"):
        assert (row["seeds"], row["answer"]) == (1, "holds (one seed)")
    (row,) = rows(of_baselines(own), "k-means beats ICA")
    assert row["answer"] == "not measured: needs fits of k-means and ICA of one size and seed"


def test_a_lead_that_is_only_one_of_sign_is_told_apart():
    """ICA finds more than k-means, with the wrong sign; PCA finds less with either."""
    own = fits({"kmeans": {1000: 0.2, 4000: 0.5}})
    own += fits({"ica": {1000: 0.3, 4000: 0.36}}, turned=0.21)
    own += fits({"pca": {4000: 0.2}}, turned=0.05)
    table = of_baselines(own)
    for name, plain, either, answer in (
        ("ICA", 0.14, -0.06, "does not hold"),
        ("PCA", 0.3, 0.26, "holds"),
    ):
        first, second = rows(table, f"k-means beats {name}")
        assert first["measure"] == f"MMCS of k-means minus that of {name}, 4,000 samples"
        assert second["measure"] == f"{first['measure']}, either sign"
        assert (first["answer"], second["answer"]) == ("holds", answer)
        assert first["mean"] == pytest.approx(plain, abs=1e-3)
        assert second["mean"] == pytest.approx(either, abs=1e-3)
        assert second["published_at_d_in_256"] == "", "the text does not speak of signs"
    ica = rows(table, "k-means beats ICA")[1]
    assert ica["details"] == "lead, by samples: -0.3 at 1,000, -0.06 at 4,000"


def test_kmeans_too_may_be_turned_around():
    own = fits({"kmeans": {100: 0.3}}, turned=0.4) + fits({"ica": {100: 0.5}})
    plain, either = rows(of_baselines(own), "k-means beats ICA")
    assert (plain["answer"], either["answer"]) == ("does not hold", "holds")
    assert either["mean"] == pytest.approx(0.7 - 0.51, abs=1e-3)


@pytest.mark.parametrize(
    ("sizes", "figure", "answer"),
    [
        # gains per doubling: 0.1 and 0.01
        ({100: 0.3, 200: 0.4, 800: 0.42}, 0.01, "holds"),
        # 0.02 and 0.01: more than a quarter, more than 0.005
        ({100: 0.3, 800: 0.36, 1600: 0.37}, 0.01, "does not hold"),
        # 0.001 and 0.001: small on its own
        ({100: 0.3, 200: 0.301, 400: 0.302}, 0.001, "holds"),
        # MMCS that falls has not levelled off
        ({100: 0.3, 200: 0.4, 400: 0.3}, 0.1, "does not hold"),
        # only the ends count
        ({100: 0.3, 200: 0.4, 400: 0.41, 800: 0.42}, 0.01, "holds"),
    ],
)
def test_kmeans_levels_off_when_the_last_doubling_adds_little(sizes, figure, answer):
    (row,) = rows(of_baselines(fits({"kmeans": dict(reversed(sizes.items()))})), LEVELS)
    assert row["mean"] == pytest.approx(figure, abs=1e-3)
    assert row["answer"] == answer
    assert row["claimed"] == "below 0.005, or 0.25 of the first gain per doubling if that is more"
    assert (row["details"] != "") == (answer != "holds")


def test_levelling_off_leaves_out_seeds_and_sizes_that_failed():
    own = fits({"kmeans": {100: 0.3, 200: 0.4, 400: 0.41, 800: 0.0}})
    for seed in SEEDS:
        change(own, "kmeans", 800, seed, mmcs=np.nan)
    change(own, "kmeans", 100, 0, mmcs=None)
    (row,) = rows(of_baselines(own), LEVELS)
    assert (row["seeds"], row["answer"]) == (2, "holds")
    assert "200 to 400 samples" in row["measure"]
    (row,) = rows(of_baselines([r for r in own if r["n_samples"] > 100]), LEVELS)
    assert row["answer"] == "not measured: needs k-means fits of three sizes"


@pytest.mark.parametrize(("level", "answer"), [(0.5, "holds"), (0.9, "does not hold")])
def test_saes_at_their_best_l1_against_kmeans_at_its_largest_size(level, answer):
    result = make()
    result.final["mmcs_true_to_dict"] += noise()
    result.final["mmcs_true_to_dict"][:, :, 1, 1] += np.float32(0.2)
    result.final["mmcs_true_to_dict"][:, :, 3, 0] += np.float32(0.3)
    own = fits({"kmeans": {100: 0.99, 400: level}}, seeds=(9, 5, 77))
    same, best = rows(of_baselines(own, result), SAES)
    kmeans = {r["seed"]: r["mmcs"] for r in own if r["n_samples"] == 400}
    for row, (i, j), where, n in (
        (same, (1, 1), "ratio 1, l1 0.1", 2),
        (best, (3, 0), "ratio 4, l1 0.01", 8),
    ):
        ours = result.final["mmcs_true_to_dict"][0, :, i, j, 0, 0, 0, 0]
        by_hand = [ours[1] - kmeans[5], ours[2] - kmeans[9]]
        assert row["mean"] == pytest.approx(np.mean(by_hand), abs=1e-6)
        assert (row["seeds"], row["answer"]) == (2, f"{answer} (best of {n}, chosen afterwards)")
        assert where in row["measure"]
        assert "400 samples" in row["measure"]
        assert row["published_at_d_in_256"] == "best SAE 0.99, k-means 0.56"
    for row, ratio in ((same, 1), (best, 4)):
        start = f"lead at ratio {ratio}, by l1: " if level == 0.9 else ""
        assert row["details"].startswith(start)
        assert (row["details"] == "") == (level == 0.5)


def test_saes_against_kmeans_without_what_it_takes():
    own = fits({"kmeans": {100: 0.5}})
    unknown = make()
    del unknown.final["mmcs_true_to_dict"]
    for result, needs in (
        (None, "a grid run"),
        (make({"other": SPEC}), "a grid run on this data with its true features"),
        (unknown, "a grid run on this data with its true features"),
    ):
        (row,) = rows(of_baselines(own, result), SAES)
        assert row["answer"] == f"not measured: needs {needs}"
    (row,) = rows(of_baselines(fits({"pca": {100: 0.5}}), make()), SAES)
    assert row["answer"] == "not measured: needs fits of k-means"
    one, every = rows(of_baselines(own, make(ratios=(2.0,))), SAES)
    assert one["answer"] == "not measured: needs a trained SAE of k-means' size"
    assert every["seeds"] == 3
    only = make(ratios=(1.0,))
    only.final["frozen_at"][..., 1, 0, 0, 0, 0] = 7
    only.final["mmcs_true_to_dict"] += np.float32(0.2)
    answers = {row["answer"] for row in rows(of_baselines(own, only), SAES)}
    assert answers == {"holds"}, "where one setting is left there is no choice"
    strangers = rows(of_baselines(own, make(seeds=(70, 71, 72))), SAES)
    assert {row["answer"] for row in strangers} == {"not measured: no seed has a value"}


def test_rarity_of_every_method_at_its_largest_size():
    own = fits({"kmeans": {100: 0.5, 200: 0.5}, "random": {100: 0.3}})
    change(own, "kmeans", 100, 0, rarity_correlation=-99.0)
    for seed in SEEDS:
        change(own, "random", 100, seed, rarity_correlation=np.nan)
    own += fits({"ica": {50: 0.1}}, rarity=-0.2)
    kmeans, unknown, ica = rows(of_baselines(own), RARITY)
    assert (kmeans["mean"], kmeans["answer"]) == (pytest.approx(0.5, abs=1e-3), "holds")
    assert kmeans["measure"].startswith("k-means, 200 samples")
    assert unknown["answer"] == "not measured: needs a rank correlation of random"
    assert (ica["answer"], ica["details"]) == (
        "does not hold",
        "rank correlation, by samples: -0.2 at 50",
    )


def test_variants_of_a_sweep_are_columns_that_only_saes_fill():
    own = fits({"kmeans": {100: 0.5}}) + fits({"kmeans": {100: 0.5}}, dataset="correlated")
    table = of_baselines(own, make(lr=(1e-3, 1e-2)))
    assert table.columns == of_grid(make(lr=(1e-3, 1e-2))).columns
    for row in table:
        assert (row["lr"] is None) == (row["claim"] != SAES)
    assert [row["lr"] for row in rows(table, SAES, "correlated")] == [1e-3, 1e-3, 1e-2, 1e-2]
    assert "<table>" in table.to_html()


def test_fits_are_checked_before_anything_is_computed():
    own = fits({"kmeans": {100: 0.5}})
    with pytest.raises(
        ValueError, match=r"fits: got .*'kmeans', 100, 5\) twice, allowed: each dataset"
    ):
        of_baselines([*own, dict(own[1])])
    for name in ("rarity_correlation", "mmcs_either_sign"):
        del own[2][name]
        with pytest.raises(ValueError, match=f"fits: got a row without {name}, allowed: dataset, "):
            of_baselines(own)
    assert of_baselines([]) == []
