"""Pictures of the toy, tokens and baselines studies: what they show, also in small and broken
cases."""

import io

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from saejax.experiments.baselines import figures as baselines_figures
from saejax.experiments.tokens import figures as tokens_figures
from saejax.experiments.toy3d import figures as toy3d_figures
from saejax.experiments.toy3d.figures import DEAD, LIVE
from saejax.results.plots.panels import Intervals

pytestmark = pytest.mark.filterwarnings("error")
nan = np.nan


def unit(n, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, 3))
    return rows / np.linalg.norm(rows, axis=1)[:, None]


def panel(n_features, n_seeds=1, seed=0):
    rng = np.random.default_rng(seed)
    return np.geomspace(0.5, 0.05, n_features), rng.uniform(size=(n_seeds, n_features))


def texts(ax):
    return [text.get_text() for text in ax.texts]


def near(frame, colour):
    """How many pixels of a frame have about this colour."""
    target = 255 * np.array(to_rgb(colour))
    return int((np.abs(frame.astype(float) - target).max(-1) < 40).sum())


CASES = {
    "features": lambda: toy3d_figures.features(3 * unit(4), unit(4)),
    "one feature": lambda: toy3d_figures.features(unit(1), unit(1)),
    "samples": lambda: toy3d_figures.samples(unit(4), np.eye(5, 4)),
    "one sample of one feature": lambda: toy3d_figures.samples(unit(1), np.ones((1, 1))),
    "a sample of nothing": lambda: toy3d_figures.samples(unit(2), np.zeros((1, 2))),
    "frequencies": lambda: toy3d_figures.frequencies(
        np.array([[0.5, 0.1], [0.4, 0.2]]), np.array([0.5, 0.2])
    ),
    "frequency of one": lambda: toy3d_figures.frequencies(np.array([[0.5]]), np.array([0.5])),
    "distribution": lambda: toy3d_figures.distribution(np.linspace(0, 1, 100), "x", 0.42),
    "distribution of one": lambda: toy3d_figures.distribution(np.array([0.5]), "x", 0.42),
    "responses": lambda: tokens_figures.responses(
        {"a": np.eye(2), "b": np.ones((2, 1)), "c": np.ones((2, 7))},
        ["01", "2", "0123456"],
        ["x", "y"],
    ),
    "response of one": lambda: tokens_figures.responses(
        {"a": np.array([[1.0], [0.0]])}, ["3"], ["x", "y"]
    ),
    "own rates": lambda: tokens_figures.own_rates(
        Intervals(*np.full((3, 3, 2), 0.5)), ["a", "b", "c"], [0.1, 1.0], 9
    ),
    "own rate of one": lambda: tokens_figures.own_rates(
        Intervals(*np.ones((3, 1, 1))), ["a"], [0.1], 1
    ),
    "against l1": lambda: tokens_figures.against_l1(
        {"a": (np.array([3.0, nan, 1]), np.array([0.1, nan, nan])), "b": (np.ones(3), np.zeros(3))},
        [0.1, 0.0, 1.0],
    ),
    "against one l1": lambda: tokens_figures.against_l1(
        {"a": (np.ones(1), np.array([nan]))}, [0.0]
    ),
    "nothing against l1": lambda: tokens_figures.against_l1(
        {"a": (np.full(2, nan), np.full(2, nan))}, [0.1, 1]
    ),
    "boxes": lambda: baselines_figures.boxes(
        {
            "PCA": [baselines_figures.Box(16, np.array([0.1, nan]), 1)],
            "ICA": [baselines_figures.Box(9, np.ones(2), 0)],
        },
        {"PCA": 0.2},
        "t",
    ),
    "a box of failures": lambda: baselines_figures.boxes(
        {"ICA": [baselines_figures.Box(16, np.full(2, nan), 2)]}, {}, "t"
    ),
    "representedness": lambda: baselines_figures.representedness(
        {str(i): panel(30, 2, i) for i in range(4)}, "t"
    ),
    "representedness of one": lambda: baselines_figures.representedness({"a": panel(1)}, "t"),
    "equal probabilities": lambda: baselines_figures.representedness(
        {"a": (np.full(3, 0.5), np.eye(2, 3))}, "t"
    ),
    "failed seeds": lambda: baselines_figures.representedness(
        {
            "a": (np.array([0.5, 0.1]), np.array([[0.5, 0.4], [nan, nan]])),
            "b": (panel(2)[0], np.full((1, 2), nan)),
        },
        "t",
    ),
    "maps": lambda: baselines_figures.maps(
        {
            row: {"a": (np.eye(4, 2), np.array([0, 1, -1, 2])), "b": (np.eye(4, 2), np.arange(4))}
            for row in "xy"
        },
        5,
        "t",
    ),
    "a map of nothing": lambda: baselines_figures.maps(
        {"x": {"a": (np.eye(4, 2), np.full(4, -1))}}, 1, "t"
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_plots_return_figures_and_leave_pyplot_alone(case):
    figure = CASES[case]()
    assert isinstance(figure, Figure)
    figure.savefig(io.BytesIO(), format="png")
    assert pyplot.get_fignums() == []


# ---------------------------------------------------------------------------------------- films


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ([0], [0]),
        ([0, 50, 100], [0, 50, 100]),
        (range(0, 601, 50), [0, 50, 100, 150, 200, 400, 600]),
        (range(0, 651, 50), [0, 50, 100, 150, 200, 400, 600, 650]),
        ([0, 150, 300, 450, 600], [0, 150, 450, 600]),
        ([0, 1000, 2000], [0, 1000, 2000]),
        (range(0, 3001, 10), [*range(0, 200, 10), *range(200, 3001, 200)]),
    ],
)
def test_films_are_dense_at_first_and_end_with_the_last_snapshot(steps, kept):
    steps = np.array(steps)
    assert steps[toy3d_figures.film_steps(steps)].tolist() == kept


def test_live_and_dead_latents_look_different():
    W_dec = np.stack([unit(12)] * 3)
    alive = np.zeros((3, 12), bool)
    alive[1] = True
    alive[2, :6] = True
    frames = [*toy3d_figures.film(unit(2, 1), W_dec, alive, np.zeros(3), np.arange(3), "t")]
    assert {(f.dtype, f.ndim, f.shape[2]) for f in frames} == {(np.dtype(np.uint8), 3, 3)}
    none, every, half = ((near(f, LIVE), near(f, DEAD)) for f in frames)
    # The legend has a few pixels of either colour.
    assert every[0] > half[0] > none[0] + 50
    assert none[1] > half[1] > every[1] + 50


def test_a_frame_says_what_it_shows(monkeypatch):
    said = []
    monkeypatch.setattr("matplotlib.text.Text.set_text", lambda self, text: said.append(text))
    alive = np.array([[True, False, True]])
    next(
        toy3d_figures.film(
            unit(2), unit(3)[None], alive, np.array([0.756]), np.array([1200]), "ratio 4"
        )
    )
    assert "ratio 4\nstep 1,200   MMCS 0.76   2 live, 1 dead" in said


def test_one_latent_is_a_film():
    (frame,) = toy3d_figures.film(
        unit(1), unit(1)[None], np.array([[True]]), np.array([1.0]), np.array([0]), "t"
    )
    assert near(frame, LIVE) > 0


# ---------------------------------------------------------------------------------------- contents


def test_samples_name_the_features_that_they_are_made_of():
    figure = toy3d_figures.samples(unit(3), np.array([[0.5, 0, 0.25], [0, 0, 0]]))
    assert [ax.get_title() for ax in figure.axes] == ["x = 0.50 f0 + 0.25 f2", "x = 0"]


def test_frequencies_have_a_bar_for_the_mean_and_a_dot_for_each_seed():
    measured = np.array([[0.6, 0.2], [0.4, 0.1]])
    (ax,) = toy3d_figures.frequencies(measured, np.array([0.5, 0.25])).axes
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], [0.5, 0.15])
    drawn = [line.get_ydata() for line in ax.lines]
    np.testing.assert_allclose(drawn[:2], measured)
    np.testing.assert_allclose(drawn[-1], [0.5, 0.25, 0.25])


def test_a_distribution_has_lines_at_its_mean_and_at_the_published_value():
    (ax,) = toy3d_figures.distribution(np.array([0.1, 0.5]), "x", 0.42).axes
    assert [line.get_xdata()[0] for line in ax.lines] == [pytest.approx(0.3), 0.42]
    assert sum(bar.get_height() for bar in ax.patches) == 2


def test_responses_are_shares_of_each_latents_largest_activation():
    h = np.array([[2.0, 0.5], [1.0, 0.25]])
    ax = tokens_figures.responses({"t": h}, [["7", "3"]], ["x", "y"]).axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), [[1, 1], [0.5, 0.5]])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["7\n2", "3\n0.5"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["x", "y"]


def test_own_rates_stand_group_by_group_with_their_intervals():
    share = np.array([[0.25, 0.5], [1.0, 0.75], [0.0, 0.1]])
    figure = tokens_figures.own_rates(
        Intervals(share, share / 2, (1 + share) / 2), ["a", "b", "c"], [0.01, 0.1], 4
    )
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), share)
    assert texts(ax)[0] == "25 %\n(12 to 62)"
    assert texts(ax)[1] == "50 %\n(25 to 75)"
    same = Intervals(share, share, share)
    alone = tokens_figures.own_rates(same, ["a", "b", "c"], [0.01, 0.1], 1).axes[0]
    assert texts(alone)[0] == "25 %"


def test_measurements_stand_in_the_order_of_l1():
    values = {"a": (np.array([3.0, 1, 2]), np.array([0.3, nan, 0.2]))}
    ax = tokens_figures.against_l1(values, [1.0, 0.0, 0.1]).axes[0]
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 0.1, 1])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1, 2, 3])
    assert ax.get_xscale() == "symlog"
    assert tokens_figures.against_l1(values, [1.0, 0.01, 0.1]).axes[0].get_xscale() == "log"
    assert ax.get_ylim()[0] == 0
    below = tokens_figures.against_l1(
        {"a": (np.array([1.0, 2]), np.array([3.0, nan]))}, [0.1, 1]
    ).axes[0]
    assert below.get_ylim()[0] == -2


def test_boxes_mark_what_did_not_converge():
    each = [
        baselines_figures.Box(1600, np.array([0.2, 0.4, nan]), 2),
        baselines_figures.Box(3200, np.full(3, nan), 3),
    ]
    figure = baselines_figures.boxes(
        {"ICA": each, "PCA": [baselines_figures.Box(1600, np.array([0.3]), 0)]}, {"ICA": 0.17}, "t"
    )
    ica, pca = figure.axes
    assert texts(ica) == ["2/3*", "3/3*", "published 0.17"]
    assert texts(pca) == []
    assert [label.get_text() for label in ica.get_xticklabels()] == ["1,600", "3,200"]
    median = next(line for line in ica.lines if line.get_color() == "#d7301f")
    np.testing.assert_allclose(median.get_ydata(), 0.3)
    assert figure.get_suptitle() == "t\n* so many fits had not converged when they stopped"
    sound = baselines_figures.boxes({"PCA": [baselines_figures.Box(9, np.ones(2), 0)]}, {}, "t")
    assert sound.get_suptitle() == "t"


def test_representedness_has_medians_from_the_rarest_tenth_to_the_commonest():
    p, cosine = panel(20, 3)
    ax = baselines_figures.representedness({"SAE": (p, cosine)}, "t").axes[0]
    pairs = np.argsort(p).reshape(10, 2)
    np.testing.assert_allclose(ax.lines[-1].get_xdata(), p[pairs].mean(1))
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), [np.median(cosine[:, at]) for at in pairs])
    np.testing.assert_array_equal([line.get_ydata() for line in ax.lines[:3]], cosine)
    assert ax.get_title() == f"SAE (mean {cosine.mean():.2f})"


def test_representedness_of_a_method_that_failed_says_so():
    p, cosine = panel(4, 2)
    cosine[1] = nan
    panels = {"k-means": (p, cosine), "ICA": (p, np.full((2, 4), nan))}
    titles = [ax.get_title() for ax in baselines_figures.representedness(panels, "t").axes]
    assert titles == [f"k-means (mean {cosine[0].mean():.2f})", "ICA: every fit failed"]


def test_maps_are_coloured_by_the_strongest_feature():
    places, strongest = np.arange(8.0).reshape(4, 2), np.array([2, -1, 0, 2])
    ax = baselines_figures.maps({"data": {"decay 1": (places, strongest)}}, 3, "t").axes[0]
    grey, coloured = ax.collections
    np.testing.assert_array_equal(grey.get_offsets(), places[[1]])
    np.testing.assert_array_equal(coloured.get_offsets(), places[[0, 2, 3]])
    np.testing.assert_array_equal(coloured.get_array(), [3, 1, 3])
    assert (coloured.norm.vmin, coloured.norm.vmax) == (1, 3)
    assert ax.get_title() == "data, decay 1"
