"""Verdicts on a claim, judged as SciPy's t test judges them."""

import numpy as np
import pytest
from scipy import stats

from saejax.experiments.common.claims import verdict

# What has no rank or no mean is to be left out, not to be computed with a warning.
pytestmark = pytest.mark.filterwarnings("error")


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
