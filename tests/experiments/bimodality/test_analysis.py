"""The analysis of dictionaries whose matches, firings and effects were planted."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy import stats

from saejax.analysis.mcs import MaxCosine
from saejax.experiments.bimodality.analysis import analyse
from saejax.experiments.bimodality.measurement import Measured, reduced
from saejax.experiments.bimodality.settings import AnalysisSettings
from saejax.lm.ablation import Ablations
from saejax.results.result import Result
from saejax.sae.params import Params

D_IN, SIZES, SEEDS = 16, (20, 40, 80), (0, 5)
L1 = (0.1, 0.2)
SETTINGS = AnalysisSettings(n_random=2, n_boot=30, rare_below=0.01, cutoff=0.8)
COPIED = {20: 15, 40: 20}  # how many latents of each size the larger ones have too
METRICS = ("fvu", "mse", "l0", "dead_latents")


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def planted(seed):
    """Dictionaries of the sizes; the first latents of a smaller one are those of the largest."""
    rng = np.random.default_rng(seed)
    largest = unit(rng.normal(size=(80, D_IN)))
    small, middle = (
        np.concatenate([largest[:n], unit(rng.normal(size=(d - n, D_IN)))])
        for d, n in COPIED.items()
    )
    return {20: small, 40: middle, 80: largest}


W_DEC = {(seed, k): planted(10 * seed + k) for seed in SEEDS for k in range(len(L1))}


def cosines(a, b):
    return np.float64(a) @ np.float64(b).T


@pytest.fixture(scope="module")
def result():
    shape = (1, len(SEEDS), len(SIZES), len(L1), 1, 1, 1, 1)

    def load_params(index):
        _, seed, ratio, l1, *_ = index
        W = W_DEC[SEEDS[seed], l1][(80, 20, 40)[ratio]]
        return Params(W.T, np.zeros(len(W), np.float32), W, None)

    numbers = {name: np.arange(12.0).reshape(shape) + i for i, name in enumerate(METRICS)}
    return Result(
        coords={
            "dataset": ("activations",),
            "seed": SEEDS,
            "ratio": (5.0, 1.25, 2.5),
            "l1": L1,
            "lr": (1e-3,),
            "resample": ("off",),
            "architecture": ("relu",),
            "k": (0,),
        },
        d_sae=(80, 20, 40),  # as the user gave them: not in order
        run={"d_in": D_IN},
        steps=np.array([1]),
        history={},
        final=numbers | {"frozen_at": np.full(shape, -1)},
        best_index=None,
        best_cosine=None,
        features=None,
        load_params=load_params,
    )


@pytest.fixture(scope="module")
def measured():
    """Of the latents that are not copied, the first half is dead, then one is rare and one real.

    Effects are 5 times those of a random direction, 1 times or, of the real one, 7 times.
    """
    windows = np.array([1.0, 2.0, 3.0], np.float32)
    columns = ({}, {}, {}, {}, {})
    for l1 in L1:
        for d in SIZES:
            frequency, effect = np.full((2, d), 0.1, np.float32), np.full((2, d), 5, np.float32)
            if d in COPIED:
                n = COPIED[d]
                half = (d - n) // 2
                frequency[:, n : n + half] = 0
                effect[:, n : n + half] = 0
                effect[:, n + half :] = 1
                frequency[:, n + half] = 0.005
                effect[:, n + half + 1] = 7
                effect[:, -1] = np.nan
            control = np.where(frequency > 0, np.linspace(0.1, 0.2, d, dtype=np.float32), np.nan)
            values = (
                np.stack([windows + 0.5, windows + 1.5]),
                frequency,
                effect * control,
                control,
                np.linspace(0.5, 1.5, d, dtype=np.float32) * control,
            )
            values[2][frequency == 0] = 0
            for column, value in zip(columns, values, strict=True):
                column[l1, d] = value
    return Measured(Ablations(windows, windows + 2, windows + 4), *columns)


@pytest.fixture(scope="module")
def found(result, measured):
    return analyse(result, measured, 0.2, SETTINGS, jax.random.key(0))


def rows(found, table, **where):
    return [r for r in found.rows[table] if all(r[k] == v for k, v in where.items())]


def test_mcs_are_the_largest_cosines_with_each_larger_dictionary(found):
    for small, larger in ((20, 40), (20, 80), (40, 80)):
        got = found.arrays[f"mcs/0.2/{small}/{larger}"]
        for i, seed in enumerate(SEEDS):
            own = W_DEC[seed, 1]
            np.testing.assert_allclose(got[i], cosines(own[small], own[larger]).max(1), atol=1e-6)
    assert not any(name.startswith("mcs/0.2/80") for name in found.arrays)
    assert not any("/0.1/" in name for name in found.arrays)


def test_mcs_against_other_seeds(found):
    a, b = (W_DEC[seed, 1][40] for seed in SEEDS)
    got = found.arrays["other_seeds/0.2/40"]
    np.testing.assert_allclose(got[:, 0], [cosines(a, b).max(1), cosines(b, a).max(1)], atol=1e-6)
    (row,) = rows(found, "cells", d_sae=40, seed=5)
    np.testing.assert_allclose(row["mmcs_to_other_seeds"], cosines(b, a).max(1).mean(), rtol=1e-5)


def test_cells_have_the_sweep_s_numbers_and_the_loss_recovered(found, result):
    (row,) = rows(found, "cells", d_sae=80, seed=5)
    assert [row[name] for name in METRICS] == [result.final[n][0, 1, 0, 1, 0, 0] for n in METRICS]
    assert row["loss"] == 3.5
    # Zero ablation costs 2 and the reconstruction 1.5, mean ablation 4; every window alike.
    for name, share in (("zero", 0.25), ("mean", 2.5 / 4)):
        got = [row[f"recovered_{name}{end}"] for end in ("", "_from", "_to")]
        np.testing.assert_allclose(got, share)
    assert np.isnan(row["mmcs_to_largest"])
    assert len(found.rows["cells"]) == 6


def test_high_and_low_mcs_are_counted(found):
    for d, larger in ((20, 40), (20, 80), (40, 80)):
        for i, seed in enumerate(SEEDS):
            (row,) = rows(found, "split", d_sae=d, against=larger, seed=seed)
            high = (found.arrays[f"mcs/0.2/{d}/{larger}"][i] >= 0.8).sum()
            assert (row["high"], row["low"]) == (high, d - high)
            interval = stats.binomtest(int(high), d).proportion_ci(0.95, "wilson")
            np.testing.assert_allclose(
                [row[f"high_share{end}"] for end in ("", "_from", "_to")],
                [high / d, interval.low, interval.high],
            )
    assert rows(found, "split", d_sae=20, against=80, seed=0)[0]["high"] >= 15


def test_correlations_are_scipy_s(found):
    (row,) = rows(found, "correlation", seed=5)
    x, y = (found.arrays[f"mcs/0.2/20/{larger}"][1] for larger in (40, 80))
    np.testing.assert_allclose(row["pearson"], stats.pearsonr(x, y).statistic, rtol=1e-5)
    np.testing.assert_allclose(row["spearman"], stats.spearmanr(x, y).statistic, rtol=1e-5)
    assert (row["d_sae"], row["larger"], row["largest"], row["n"]) == (20, 40, 80, 20)
    assert row["both_high"] == ((x >= 0.8) & (y >= 0.8)).sum()
    assert row["both_low"] == ((x < 0.8) & (y < 0.8)).sum()
    assert 0 < row["both_low"] < 20


def test_random_ones_without_low_mcs_are_told_of(result, measured):
    """In 16 dimensions 80 random vectors leave none below 0.2, but a planted one can be there."""
    rng, axes = np.random.default_rng(0), np.eye(16)
    W = {
        40: unit(axes[:1] + 0.01 * rng.normal(size=(40, 16))),
        80: unit(axes[1:2] + 0.01 * rng.normal(size=(80, 16))),
    }
    W[20] = W[40][:20]

    def load_params(index):
        rows = W[(80, 20, 40)[index[2]]]
        return Params(rows.T, np.zeros(len(rows), np.float32), rows, None)

    other = replace(result, load_params=load_params)
    settings = AnalysisSettings(n_random=1, n_boot=5, cutoff=0.2)
    with pytest.warns(
        UserWarning, match="d_sae 20: not compared with random ones; cutoff: got 0.2"
    ):
        found = analyse(other, measured, 0.1, settings, jax.random.key(1))
    assert found.rows["emd"] == []
    assert rows(found, "split", d_sae=20, against=80, seed=0)[0]["low"] == 20


def test_the_copied_latents_are_a_mode_at_one(found):
    of_small = rows(found, "modes", d_sae=20, seed=0)
    assert of_small[-1]["place"] > 0.99
    assert [r["place"] for r in of_small] == sorted(r["place"] for r in of_small)
    assert {r["against"] for r in found.rows["modes"]} == {80}


def test_low_mcs_stand_beside_random_ones_and_their_law(found):
    for i, seed in enumerate(SEEDS):
        mcs = found.arrays["mcs/0.2/40/80"][i]
        low = np.float64(mcs[mcs < 0.8])
        (row,) = rows(found, "law", d_sae=40, seed=seed)
        want = stats.kstest(low, MaxCosine(80, D_IN, 0.8).cdf)
        np.testing.assert_allclose((row["ks"], row["ks_p_value"]), (want.statistic, want.pvalue))
        drawn = found.arrays["random/0.2/40"][i]
        drawn = drawn[np.isfinite(drawn)]
        want = stats.kstest(drawn, MaxCosine(80, D_IN, 0.8).cdf)
        np.testing.assert_allclose(row["random_ks"], want.statistic)
        (row,) = rows(found, "emd", d_sae=40, seed=seed)
        distance = stats.wasserstein_distance(low, drawn)
        emd = found.arrays["emd/0.2/40"][i]
        assert emd.shape == (4, 4)
        np.testing.assert_allclose(emd[0, 1], distance)
        np.testing.assert_allclose(row["learned_random"], emd[0, 1:3].mean())
        np.testing.assert_allclose(row["random_alt"], emd[1:3, 3].mean())
        assert row["n_low"] == len(low)
    # The latents that are not copied are random indeed.
    assert max(row["p_value"] for row in rows(found, "emd", d_sae=40)) > 0.05


def test_low_mcs_are_dead_rare_or_real_as_planted(found):
    (row,) = rows(found, "explanation", d_sae=40, seed=0)
    low = found.arrays["mcs/0.2/40/80"][0] < 0.8
    assert low[20:].all()
    assert not low[:20].any()
    assert [row[f"low_count_{name}"] for name in ("dead", "noise", "real", "idle")] == [10, 1, 1, 7]
    assert (row["low_n"], row["low_n_measured"], row["high_n_measured"]) == (20, 19, 20)
    assert row["high_count_real"] == 20
    assert row["supported"] is None
    assert row["low_dead"] == 0.5
    (small,) = rows(found, "explanation", d_sae=20, seed=5)
    assert small["against"] == 80


def test_effects_are_in_units_of_random_directions_and_count_above_most_of_these(found, measured):
    (row,) = rows(found, "explanation", d_sae=40, seed=0)
    live = measured.frequency[0.2, 40][0] > 0
    null = np.linspace(0.5, 1.5, 40)[live]
    np.testing.assert_allclose(row["effect_from"], np.quantile(null, 0.95), rtol=1e-6)
    np.testing.assert_allclose(row["high_effect"], 5, rtol=1e-6)
    effect = measured.effect[0.2, 40][0]
    np.testing.assert_allclose(row["high_nats"], np.median(effect[:20]), rtol=1e-6)
    np.testing.assert_allclose(row["low_nats"], np.nanmedian(effect[30:]), rtol=1e-6)


def test_everything_is_the_same_for_the_same_key(found, result, measured):
    again = analyse(result, measured, 0.2, SETTINGS, jax.random.key(0))
    assert str(again.rows) == str(found.rows)  # NaN is not equal to itself
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])


def test_no_low_mcs_and_dead_latents_alone_are_survived(result, measured):
    """At a cutoff that nothing is below there are no random sets to compare with."""
    all_dead = measured._replace(
        frequency={k: np.zeros_like(v) for k, v in measured.frequency.items()},
        effect={k: np.zeros_like(v) for k, v in measured.effect.items()},
        control={k: np.full_like(v, np.nan) for k, v in measured.control.items()},
        other_control={k: np.full_like(v, np.nan) for k, v in measured.control.items()},
    )
    settings = AnalysisSettings(n_random=1, n_boot=5, cutoff=0.01)
    found = analyse(result, all_dead, 0.1, settings, jax.random.key(1))
    assert found.rows["emd"] == found.rows["law"] == []
    assert not any(name.startswith(("emd", "random")) for name in found.arrays)
    (row,) = rows(found, "explanation", d_sae=40, seed=0)
    assert row["high_count_dead"] == 40
    assert row["effect_from"] == 1
    assert np.isnan(row["high_nats"])


def test_a_reduced_sae_has_the_chosen_latents(result):
    params = result.load_params((0, 0, 2, *[0] * 5))
    few = reduced(params, np.array([7, 2]))
    np.testing.assert_array_equal(few.W_enc, params.W_dec[[7, 2]].T)
    np.testing.assert_array_equal(few.W_dec, params.W_dec[[7, 2]])
    assert few.b_enc.shape == (2,)


@pytest.mark.parametrize(
    "change",
    [
        {"cutoff": -1},
        {"n_random": 0},
        {"eval_windows": 0},
        {"n_ablated": -1},
        {"ablation_windows": 0},
        {"rare_below": 0},
        {"n_boot": 0},
        {"level": 1},
        {"seed": -1},
        {"cutoff": "half"},
    ],
)
def test_settings_out_of_range_are_refused(change, unchecked):
    (name,) = change
    with pytest.raises(ValueError, match=f"^{name}: got .*, allowed: "):
        AnalysisSettings(**change)
