"""Claims of the grid study on results with planted effects, judged as SciPy's t test judges
them."""

import numpy as np
import pytest
from scipy import stats

from saejax import Result
from saejax.experiments.baselines.claims import of_baselines
from saejax.experiments.common.claims import verdict
from saejax.experiments.grid.claims import of_grid

# What has no rank or no mean is to be left out, not to be computed with a warning.
pytestmark = pytest.mark.filterwarnings("error")

RATIOS = (0.5, 1.0, 2.0, 4.0)
L1 = (0.01, 0.1)
SEEDS = (0, 5, 9)
N_FEATURES = 8
SPEC = {"type": "synthetic", "d_in": 4, "n_features": 8, "avg_active": 2.0, "feature_decay": 0.9}
DATA = {
    "uncorrelated": {**SPEC, "kind": "uncorrelated"},
    "correlated": {**SPEC, "kind": "correlated"},
}
UNDERSIZED = "undersized dictionaries unlearn features"
OVERSIZED = "oversized dictionaries keep gaining dead latents"
APPROPRIATE = "appropriately sized dictionaries stop gaining dead latents"
BETTER, LOWER = "correlated data reconstruct better", "correlated data give lower MMCS"
RARITY = "rare features are represented worse"
SAES = "SAEs with the right l1 beat k-means"
LEVELS = "k-means levels off with data size"


def make(data=DATA, seeds=SEEDS, ratios=RATIOS, lr=(1e-3,), cosine=True, steps=(10, 20, 30, 40)):
    """A result in which nothing happens; tests plant effects in its arrays."""
    coords = {
        "dataset": tuple(data),
        "seed": seeds,
        "ratio": ratios,
        "l1": L1,
        "lr": lr,
        "resample": ("off",),
        "architecture": ("relu",),
        "k": (0,),
    }
    shape = tuple(len(v) for v in coords.values())
    names = ("mmcs_true_to_dict", "mse", "fvu", "learned", "unlearned")
    final = {name: np.full(shape, 0.5, np.float32) for name in names}
    falling = np.linspace(0.9, 0.1, N_FEATURES)
    return Result(
        coords=coords,
        d_sae=tuple(int(100 * r) for r in ratios),
        run={"data": data},
        steps=np.array(steps),
        history={"dead_latents": np.zeros((len(steps), *shape), np.float32)},
        final={**final, "frozen_at": np.full(shape, -1)},
        best_index=None,
        best_cosine=np.broadcast_to(falling, (len(steps), *shape, N_FEATURES)).copy()
        if cosine
        else None,
        features=None,
        load_params=lambda index: pytest.fail("no weights are needed"),
    )


def rows(table, claim, data=None):
    return [row for row in table if row["claim"] == claim and data in (None, row["data"])]


def noise(seed=0, scale=1e-3):
    """A little something for each seed, data set and cell."""
    return np.random.default_rng(seed).normal(scale=scale, size=(2, 3, 4, 2, 1, 1, 1, 1))


# ---------------------------------------------------------------------------------------- verdict


def by_t_test(figures, claimed, limit):
    """The same answer, from SciPy's one-sample t test."""
    test = stats.ttest_1samp(figures, limit)
    if test.pvalue >= 0.05:
        return "unclear"
    return "holds" if (test.statistic > 0) == (claimed == "above") else "does not hold"


@pytest.mark.parametrize("claimed", ["above", "below"])
@pytest.mark.parametrize("limit", [0.0, -0.7])
@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_verdict_is_that_of_a_t_test(n, limit, claimed):
    rng = np.random.default_rng(n)
    seen = set()
    for mean in np.linspace(-3, 3, 31):
        figures = limit + mean / n**0.5 + rng.normal(scale=0.3, size=n)
        got = verdict(figures, claimed, limit)
        assert got["answer"] == by_t_test(figures, claimed, limit)
        assert got["mean"] == pytest.approx(np.mean(figures))
        assert got["sd"] == pytest.approx(np.std(figures, ddof=1))
        assert got["seeds"] == n
        seen.add(got["answer"])
    assert seen == {"holds", "does not hold", "unclear"}


def test_two_seeds_of_one_sign_are_not_enough():
    assert verdict(np.array([1.0, 2.0]), "above")["answer"] == "unclear"
    assert verdict(np.array([1.0, 1.01]), "above")["answer"] == "holds"


@pytest.mark.parametrize(
    ("figure", "claimed", "answer"),
    [
        (0.1, "above", "holds (one seed)"),
        (-0.1, "above", "does not hold (one seed)"),
        (-0.1, "below", "holds (one seed)"),
        (0.0, "below", "does not hold (one seed)"),
    ],
)
def test_one_seed_is_judged_by_its_sign_and_says_so(figure, claimed, answer):
    got = verdict(np.array([figure, np.nan]), claimed)
    assert (got["mean"], got["seeds"], got["answer"]) == (figure, 1, answer)
    assert np.isnan(got["sd"])


def test_seeds_without_a_value_are_left_out():
    got = verdict(np.array([np.nan, 1.0, 1.2, np.inf, 1.1]), "above")
    assert got == {**verdict(np.array([1.0, 1.2, 1.1]), "above"), "seeds": 3}
    nothing = verdict(np.array([np.nan, np.nan]), "above")
    assert (nothing["seeds"], nothing["answer"]) == (0, "not measured: no seed has a value")
    assert np.isnan(nothing["mean"])


@pytest.mark.parametrize(
    ("figure", "answer"), [(0.5, "holds"), (-0.5, "does not hold"), (0.0, "does not hold")]
)
def test_seeds_that_agree_exactly_need_no_interval(figure, answer):
    got = verdict(np.full(3, figure), "above")
    assert (got["mean"], got["sd"], got["answer"]) == (figure, 0.0, answer)


def test_a_limit_may_be_one_a_seed():
    figures, limits = np.array([1.0, 2.0, 3.0]), np.array([1.1, 2.11, 3.09])
    got = verdict(figures, "below", limits)
    assert got["answer"] == by_t_test(figures - limits, "below", 0.0) == "holds"
    assert (got["mean"], got["sd"]) == (2.0, 1.0)
    assert verdict(figures, "below", 2.0)["answer"] == "unclear"


@pytest.mark.parametrize(
    ("figures", "chosen_from", "answer"),
    [
        ([1.0, 1.1, 1.2], 1, "holds"),
        ([1.0, 1.1, 1.2], 6, "holds (best of 6, chosen afterwards)"),
        ([-1.0, -1.1, -1.2], 6, "does not hold (best of 6, chosen afterwards)"),
        ([-1.0, 1.1, 1.2], 6, "unclear (best of 6, chosen afterwards)"),
        ([1.0], 6, "holds (one seed, best of 6, chosen afterwards)"),
        ([np.nan], 6, "not measured: no seed has a value"),
    ],
)
def test_what_was_chosen_by_its_own_figures_says_so(figures, chosen_from, answer):
    assert verdict(np.array(figures), "above", chosen_from=chosen_from)["answer"] == answer


def test_a_choice_from_nothing_is_refused():
    with pytest.raises(ValueError, match="chosen_from: got 0, allowed: 1 or more"):
        verdict(np.ones(2), "above", chosen_from=0)


@pytest.mark.usefixtures("unchecked")
def test_another_side_is_refused():
    with pytest.raises(ValueError, match="claimed: got 'beside', allowed: above, below"):
        verdict(np.ones(2), "beside")  # pyright: ignore


# ---------------------------------------------------------------------------------------- sweeps


def test_every_claim_has_rows_for_every_data_set():
    table = of_grid(make())
    assert table.columns == [
        "claim",
        "data",
        "measure",
        "claimed",
        "mean",
        "sd",
        "seeds",
        "answer",
        "published_at_d_in_256",
        "details",
    ]
    counts = {(UNDERSIZED, 2), (OVERSIZED, 1), (APPROPRIATE, 1), (RARITY, 2)}
    for data in DATA:
        assert {(c, len(rows(table, c, data))) for c, _ in counts} == counts
    for claim in (BETTER, LOWER):
        assert len(rows(table, claim, "correlated minus uncorrelated")) == 2
    assert len(table) == 16
    assert all(row["seeds"] == 3 for row in table)


def test_a_sweep_without_true_features_has_no_claims():
    result = make()
    del result.final["mmcs_true_to_dict"]
    assert of_grid(result) == []


def plant_unlearning(result, small, others):
    result.final["learned"][:] = 10
    result.final["unlearned"][:, :, :1] = small
    result.final["unlearned"][:, :, 1:] = others
    result.final["unlearned"] += noise()


def test_undersized_dictionaries_that_unlearn_more():
    result = make()
    plant_unlearning(result, 6, 1)
    for share, count in (rows(of_grid(result), UNDERSIZED, data) for data in DATA):
        assert share["mean"] == pytest.approx(0.5, abs=1e-3)
        assert count["mean"] == pytest.approx(5, abs=1e-2)
        assert share["answer"] == count["answer"] == "holds"
        assert share["details"] == count["details"] == ""


def test_undersized_dictionaries_that_unlearn_less_are_shown_by_ratio():
    result = make()
    plant_unlearning(result, 1, 6)
    share, count = rows(of_grid(result), UNDERSIZED, "correlated")
    assert share["answer"] == count["answer"] == "does not hold"
    assert (
        share["details"]
        == "times unlearned per time learned, by ratio: 0.1 at 0.5, 0.6 at 1, 0.6 at 2, 0.6 at 4"
    )
    assert (
        count["details"]
        == "times an SAE unlearned a feature, by ratio: 1 at 0.5, 6 at 1, 6 at 2, 6 at 4"
    )


def test_unlearning_is_a_share_of_all_that_was_learned():
    """Neither a cell that learned nothing nor one that flickers has more weight than its events."""
    result = make(seeds=(0,))
    learned, unlearned = (
        result.final[name][0, 0, :, :, 0, 0, 0, 0] for name in ("learned", "unlearned")
    )
    learned[:], unlearned[:] = [[8, 0], [1, 19], [0, 0], [10, 10]], [[4, 0], [1, 3], [0, 0], [0, 0]]
    share, count = rows(of_grid(result), UNDERSIZED, "uncorrelated")
    assert share["mean"] == pytest.approx(4 / 8 - 4 / 40)
    assert share["answer"] == "holds (one seed)"
    assert count["mean"] == pytest.approx(4 / 2 - 4 / 6)


@pytest.mark.parametrize("ratios", [(0.25, 0.5), (1.0, 4.0)])
def test_unlearning_needs_ratios_on_both_sides_of_one(ratios):
    for row in rows(of_grid(make(ratios=ratios)), UNDERSIZED):
        assert row["answer"] == "not measured: needs ratios below 1 and from 1 on"
        assert row["seeds"] == 0
        assert row["measure"] == row["claimed"] == row["details"] == ""


def plant_dead(result, gains):
    """Dead latents, % of d_sae, that are gained after the middle: a value a ratio."""
    d_sae = np.array(result.d_sae)[:, None, None, None, None, None]
    gain = np.array(gains)[:, None, None, None, None, None] + noise(scale=0.01)
    result.history["dead_latents"][0] += 0.5 * d_sae  # what happens before the middle is no matter
    result.history["dead_latents"][-2] += 0.1 * d_sae
    result.history["dead_latents"][-1] += gain / 100 * d_sae


@pytest.mark.parametrize(
    ("gains", "oversized", "appropriate"),
    [
        ((0, 0.2, 0.4, 5), "holds", "holds"),
        ((9, 0.2, 3.8, 0.5), "does not hold", "does not hold"),
        ((9, -2, -1, -1), "does not hold", "holds"),
    ],
)
def test_dead_latents_gained_in_the_second_half(gains, oversized, appropriate):
    result = make()
    plant_dead(result, gains)
    table = of_grid(result)
    for data in DATA:
        (keep,), (stop,) = rows(table, OVERSIZED, data), rows(table, APPROPRIATE, data)
        assert keep["mean"] == pytest.approx(gains[3], abs=0.02)
        assert stop["mean"] == pytest.approx((gains[1] + gains[2]) / 2, abs=0.02)
        assert (keep["answer"], stop["answer"]) == (oversized, appropriate)
        assert ("at 4" in keep["details"]) == (oversized != "holds")


def test_rows_say_where_the_claim_puts_the_measure():
    claimed = {(row["claim"], row["claimed"]) for row in of_grid(make())}
    assert claimed == {
        (UNDERSIZED, "above 0"),
        (OVERSIZED, "above 1"),
        (APPROPRIATE, "below 1"),
        (BETTER, "below 0"),
        (LOWER, "below 0"),
        (RARITY, "above 0"),
    }


@pytest.mark.parametrize(("steps", "before"), [((10, 20), 0), ((10, 20, 30), 1)])
def test_half_of_training_is_the_first_evaluation_from_there(steps, before):
    result = make(steps=steps)
    for i, dead in enumerate(result.history["dead_latents"]):
        dead[:] = 4.0 * 10**i  # ratio 4 has 400 latents
    (keep,) = rows(of_grid(result), OVERSIZED, "correlated")
    assert keep["mean"] == pytest.approx(10.0 ** (len(steps) - 1) - 10.0**before)


def test_dead_latents_need_the_ratios_and_two_evaluations():
    table = of_grid(make(ratios=(0.5, 3.0)))
    assert rows(table, OVERSIZED)[0]["answer"] == "not measured: needs ratios from 4 on"
    assert rows(table, APPROPRIATE)[0]["answer"] == "not measured: needs ratios 1 to 2"
    (row, _) = rows(of_grid(make(steps=(40,))), OVERSIZED)
    assert row["answer"] == "not measured: needs an evaluation halfway"


def plant_difference(result, name, correlated_minus_uncorrelated):
    result.final[name] += noise(sum(map(ord, name)))
    result.final[name][1] += np.float32(correlated_minus_uncorrelated)


@pytest.mark.parametrize("sign", [1, -1])
def test_correlated_data_against_uncorrelated(sign):
    result = make()
    for name in ("mse", "mmcs_true_to_dict"):
        plant_difference(result, name, -0.1 * sign)
    plant_difference(result, "fvu", 0.2 * sign)
    table = of_grid(result)
    mse, fvu = rows(table, BETTER)
    over_cells, at_best = rows(table, LOWER)
    answers = ("holds", "does not hold")[::sign]
    assert (mse["answer"], fvu["answer"]) == answers
    assert over_cells["answer"] == answers[0]
    assert at_best["answer"] == f"{answers[0]} (best of 8, chosen afterwards)"
    assert mse["mean"] == pytest.approx(-0.1 * sign, abs=2e-3)
    assert at_best["mean"] == pytest.approx(-0.1 * sign, abs=5e-3)
    other = {1: "mse -0.1: holds", -1: "fvu -0.2: holds"}[sign]
    details = f"below 0 at 0 of 8 settings (ratio, l1); {other}"
    assert (fvu if sign == 1 else mse)["details"] == details
    assert (mse if sign == 1 else fvu)["details"] == ""
    beside = "best SAEs +0.1: does not hold (best of 8, chosen afterwards)"
    assert over_cells["details"].endswith(beside) == (sign == -1)


def test_differences_are_paired_by_seed():
    """Seeds differ by much more than the data sets do, which must not matter."""
    result = make()
    result.final["mse"] += np.array([0, 10, 20], np.float32).reshape(1, 3, *[1] * 6)
    plant_difference(result, "mse", -0.1)
    row = rows(of_grid(result), BETTER)[0]
    assert row["answer"] == "holds"
    assert row["sd"] < 0.01


def test_best_cells_are_those_of_each_data_set():
    result = make()
    mmcs = result.final["mmcs_true_to_dict"]
    mmcs[0, :, 1, 1] = 0.9
    mmcs[1, :, 2, 0] = np.array([0.7, 0.8, 0.75]).reshape(3, *[1] * 4)
    result.final["frozen_at"][0, :, 3, 0] = 7
    row = rows(of_grid(result), LOWER)[1]
    assert row["answer"].endswith("(best of 8, chosen afterwards)"), "of 7 on the other data"
    assert row["mean"] == pytest.approx(-0.15)
    assert row["sd"] == pytest.approx(0.05)
    assert "ratio 2, l1 0.01 minus ratio 1, l1 0.1" in row["measure"]


def test_data_sets_are_compared_that_share_their_settings():
    data = {
        "far": {**SPEC, "kind": "uncorrelated", "feature_decay": 0.5},
        "near": DATA["uncorrelated"],
        "two": {**SPEC, "kind": "copula", "copula_strength": 0.5},
        "array": {"type": "array", "rows": 5, "d_in": 4},
    }
    assert [row["data"] for row in rows(of_grid(make(data)), BETTER)] == ["two minus near"] * 2
    del data["near"]
    for claim in (BETTER, LOWER):
        (row,) = rows(of_grid(make(data)), claim)
        needs = "not measured: needs correlated and uncorrelated data with the same settings"
        assert (row["data"], row["answer"]) == ("far, two, array", needs)


def test_frozen_cells_are_left_out():
    result = make()
    plant_difference(result, "mse", -0.1)
    at = [(1, 1, 2, 1), (0, 2, slice(None), slice(None)), (0, 0, 1, 1)]
    for index in at:
        result.final["frozen_at"][index] = 7
        for name in ("mse", "mmcs_true_to_dict", "learned", "unlearned"):
            result.final[name][index] = 1e6
        result.history["dead_latents"][(-1, *index)] = 1e6
        result.best_cosine[(-1, *index)] = np.linspace(0, 1, N_FEATURES)  # pyright: ignore
    table = of_grid(result)
    assert all(abs(row["mean"]) < 2 for row in table)
    assert {row["seeds"] for row in table} == {2, 3}
    kept = np.where(result.final["frozen_at"] < 0, result.final["mse"], np.nan)[..., 0, 0, 0, 0]
    by_hand = [np.nanmean(kept[1, s] - kept[0, s]) for s in (0, 1)]
    row = rows(table, BETTER)[0]
    assert (row["seeds"], row["mean"]) == (2, pytest.approx(np.mean(by_hand)))
    assert rows(table, RARITY, "correlated")[1]["mean"] == pytest.approx(1)


def test_a_sweep_in_which_every_cell_froze_has_only_empty_answers():
    result = make()
    result.final["frozen_at"][:] = 3
    table = of_grid(result)
    assert all(row["answer"].startswith("not measured") for row in table)
    assert str(table)
    assert "<table>" in table.to_html()


def plant_cosines(result, order):
    cosine = np.random.default_rng(0).uniform(size=result.best_cosine.shape)
    result.best_cosine[:] = np.sort(cosine, axis=-1)[..., ::order]


@pytest.mark.parametrize(("order", "answer"), [(-1, "holds"), (1, "does not hold")])
def test_representedness_that_follows_the_index(order, answer):
    result = make()
    plant_cosines(result, order)
    for row in rows(of_grid(result), RARITY):
        assert row["mean"] == pytest.approx(-order)
        assert row["answer"] == answer
        assert (row["details"] != "") == (order == 1)


def test_representedness_is_the_last_at_the_best_l1_of_ratio_one():
    result = make()
    rng = np.random.default_rng(1)
    result.best_cosine[:] = rng.uniform(size=result.best_cosine.shape)  # pyright: ignore
    result.final["mmcs_true_to_dict"][:, :, 1, 1] = 0.8
    result.final["mmcs_true_to_dict"][:, :, 2, 0] = 0.9  # better, but of another ratio
    result.best_cosine[-1, 0, 0, 0, 0] = 0.25  # pyright: ignore
    own, mean = rows(of_grid(result), RARITY, "uncorrelated")
    p = 0.9 ** np.arange(N_FEATURES)
    last = result.best_cosine[-1, 0, :, :, :, 0, 0, 0, 0]  # pyright: ignore

    def spearman(cosine):
        return np.corrcoef(stats.rankdata(p), stats.rankdata(cosine))[0, 1]

    by_hand = [spearman(last[s, 1, 1]) for s in range(3)]
    assert own["mean"] == pytest.approx(np.mean(by_hand))
    assert own["sd"] == pytest.approx(np.std(by_hand, ddof=1))
    assert "l1 0.1)" in own["measure"]
    cells = [[spearman(c) for c in last[s].reshape(-1, N_FEATURES) if np.ptp(c)] for s in range(3)]
    assert [len(c) for c in cells] == [7, 8, 8], "equal cosines have no ranks"
    assert mean["mean"] == pytest.approx(np.mean([np.mean(c) for c in cells]))


def test_representedness_that_rises_with_rarity_is_shown_by_l1_of_ratio_one():
    result = make()
    result.final["mmcs_true_to_dict"][:, :, 1, 1] = 0.8
    result.best_cosine[-1, :, :, 1, 1] = np.linspace(0.1, 0.9, N_FEATURES)  # pyright: ignore
    own, mean = rows(of_grid(result), RARITY, "correlated")
    assert (own["answer"], own["details"]) == (
        "does not hold",
        "rank correlation at ratio 1, by l1: 1 at 0.01, -1 at 0.1",
    )
    assert (mean["answer"], mean["mean"]) == ("holds", pytest.approx(6 / 8))


@pytest.mark.parametrize(
    ("changed", "cosine", "answer"),
    [
        ({"feature_decay": 1}, True, "features that are not equally common"),
        ({"type": "array"}, True, "known firing probabilities"),
        ({}, False, "a finished run"),
    ],
)
def test_rarity_needs_different_known_probabilities(changed, cosine, answer):
    result = make({"uncorrelated": {**DATA["uncorrelated"], **changed}}, cosine=cosine)
    (row,) = rows(of_grid(result), RARITY)
    assert row["answer"] == f"not measured: needs {answer}"


def test_without_ratio_one_rarity_is_that_of_all_cells():
    one, every = rows(of_grid(make(ratios=(0.5, 2.0))), RARITY, "correlated")
    assert one["answer"] == "not measured: needs a trained SAE of ratio 1"
    assert every["answer"] == "holds"


def test_swept_learning_rates_get_rows_of_their_own():
    result = make(lr=(1e-3, 1e-2))
    result.final["fvu"][1, :, :, :, 0] += np.float32(0.1)
    result.final["fvu"][1, :, :, :, 1] -= np.float32(0.1)
    table = of_grid(result)
    assert len(table) == 32
    assert table.columns[2] == "lr"
    assert "resample" not in table.columns
    answers = {
        row["lr"]: row["answer"] for row in rows(table, BETTER) if row["measure"][:3] == "fvu"
    }
    assert answers == {1e-3: "does not hold", 1e-2: "holds"}


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
