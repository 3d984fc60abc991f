"""Claims of the grid study on results with planted effects."""

import numpy as np
import pytest
from helpers.grid_result import DATA, N_FEATURES, RARITY, SPEC, make, noise, rows
from scipy import stats

from saejax.experiments.grid.claims import of_grid

# What has no rank or no mean is to be left out, not to be computed with a warning.
pytestmark = pytest.mark.filterwarnings("error")
UNDERSIZED = "undersized dictionaries unlearn features"
OVERSIZED = "oversized dictionaries keep gaining dead latents"
APPROPRIATE = "appropriately sized dictionaries stop gaining dead latents"
BETTER, LOWER = "correlated data reconstruct better", "correlated data give lower MMCS"


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
