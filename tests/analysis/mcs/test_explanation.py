"""What latents of low MCS are: dead, noise, or real but not found."""

import jax
import numpy as np
import pytest
from scipy import stats

from saejax.analysis import mcs

KEY = jax.random.key(0)
# --- dead, noise or real -----------------------------------------------------------------------

COLUMNS = {
    #                low: dead, dead, noise, real, real but rare, idle   high: dead, real, idle
    "mcs": np.array([0.1, 0.2, 0.3, 0.4, 0.45, 0.49, 0.5, 0.9, 0.95]),
    "frequency": np.array([0.0, 0.3, 0.01, 0.2, 0.05, 0.1, 0.0, 0.6, 0.4]),
    "dead": np.array([True, True, False, False, False, False, True, False, False]),
    "effect": np.array([0.0, 9.0, -5.0, 2.0, 1.0, 0.5, 0.0, 3.0, 0.9]),
}


def explain(**changed):
    settings = {"key": KEY, "rare_below": 0.1, "effect_from": 1.0, "n_boot": 200}
    return mcs.explain(**{**COLUMNS, **settings, **changed})


def test_every_latent_is_of_one_class():
    found = explain()
    assert found.low.counts == {"dead": 2, "noise": 1, "real": 2, "idle": 1}
    assert found.high.counts == {"dead": 1, "noise": 0, "real": 1, "idle": 1}
    assert (found.low.n, found.low.n_measured, found.high.n) == (6, 6, 3)
    wilson = stats.binomtest(2, 6).proportion_ci(method="wilson")
    np.testing.assert_allclose(found.low.dead, (1 / 3, wilson.low, wilson.high))
    np.testing.assert_allclose(found.low.shares["real"], found.low.dead)
    assert found.supported is None


def test_medians_are_of_the_live():
    found = explain()
    np.testing.assert_allclose(found.low.frequency.value, np.median([0.01, 0.2, 0.05, 0.1]))
    np.testing.assert_allclose(found.low.effect.value, np.median([-5, 2, 1, 0.5]))
    np.testing.assert_allclose(found.high.effect.value, np.median([3, 0.9]))
    assert found.low.effect.low == -5
    assert found.low.effect.high == 2


def test_correlations_are_of_all_and_of_the_live():
    found, live = explain().correlations, ~COLUMNS["dead"]
    for name in ("frequency", "dead", "effect"):
        expected = stats.spearmanr(COLUMNS["mcs"], COLUMNS[name]).statistic
        np.testing.assert_allclose(found[name].value, expected, rtol=1e-12)
    for name in ("frequency", "effect"):
        expected = stats.spearmanr(COLUMNS["mcs"][live], COLUMNS[name][live]).statistic
        np.testing.assert_allclose(found[f"{name} of the live"].value, expected, rtol=1e-12)


def test_latents_that_were_not_ablated_are_in_no_class():
    effect = COLUMNS["effect"].copy()
    effect[[0, 3]] = np.nan
    found = explain(effect=effect)
    assert found.low.counts == {"dead": 1, "noise": 1, "real": 1, "idle": 1}
    assert (found.low.n, found.low.n_measured) == (6, 4)
    np.testing.assert_allclose(found.low.dead.value, 1 / 3)
    np.testing.assert_allclose(found.low.shares["dead"].value, 1 / 4)
    np.testing.assert_allclose(found.low.effect.value, 0.5)
    assert explain(effect=np.full(9, np.nan)).low.n_measured == 0


def test_a_class_is_supported_by_a_clear_majority():
    n = 40
    many = {
        "mcs": np.full(n, 0.3),
        "frequency": np.full(n, 1e-4),
        "dead": np.zeros(n, bool),
        "effect": np.where(np.arange(n) < 30, 0.0, 5.0),
    }
    assert explain(**many).supported == "noise"
    assert explain(**many, effect_from=6.0, rare_below=1e-5).supported == "idle"
    assert explain(**{**many, "dead": np.arange(n) < 30}).supported == "dead"
    assert explain(**{**many, "effect": 5 - many["effect"]}).supported == "real"
    assert explain(**{**many, "effect": np.where(np.arange(n) < 22, 0.0, 5.0)}).supported is None


def test_one_side_may_be_empty():
    found = explain(cutoff=-1.0)
    assert found.low.n == 0
    assert np.isnan([*found.low.dead, *found.low.effect, *found.low.shares["real"]]).all()
    assert found.supported is None


def test_the_table_shows_both_sides():
    rows_of = {row["measure"]: row for row in explain().table()}
    assert rows_of["latents"]["low_mcs"] == 6
    assert rows_of["share noise of the measured"]["low_mcs"] == pytest.approx(1 / 6)
    assert rows_of["share dead"]["high_mcs_to"] == explain().high.dead.high
    assert len(rows_of) == 9
    assert "share dead of the measured" in rows_of


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"frequency": np.full(9, 1.5)}, "frequency: got 1.5 at 0"),
        ({"mcs": np.full(9, 1.5)}, "mcs: got 1.5 at 0"),
        ({"frequency": np.full(8, 0.5)}, r"frequency: got shape \(8,\), allowed: \(9,\)"),
        ({"dead": np.zeros(9)}, "dead: got float64, allowed: bool"),
        ({"effect": np.full(9, np.inf)}, "effect: got 9 infinite"),
        ({"rare_below": 0.0}, "rare_below: got 0.0"),
        ({"effect_from": 0.0}, "effect_from: got 0.0"),
        ({"cutoff": 1.5}, "cutoff: got 1.5"),
    ],
)
def test_latents_that_do_not_fit_together_are_refused(changed, message, unchecked):
    with pytest.raises(ValueError, match=message):
        explain(**changed)
