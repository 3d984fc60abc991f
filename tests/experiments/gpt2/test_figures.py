"""The pictures of the GPT-2 study, on workdirs that are made up."""

from itertools import product

import numpy as np
import pytest
from helpers.gpt2_workdir import STEPS, block, dead_share, drawn, make
from matplotlib.colors import to_hex

from saejax.core.files import read_rows
from saejax.experiments.gpt2 import figures as gpt2_figures
from saejax.experiments.gpt2.published import GPT2, GPT2_EXPANSION

pytestmark = pytest.mark.filterwarnings("error")


def lines(ax, **style):
    """Lines of a panel, by label."""
    return {
        line.get_label(): line for line in ax.lines if not str(line.get_label()).startswith("_")
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make(tmp_path_factory.mktemp("small") / "run")


@pytest.fixture(scope="module")
def page(small):
    return drawn(small)


# ---------------------------------------------------------------------------------------- its
# figures


def test_dead_latents_over_expansions_are_seeds_and_their_means(page, small):
    axes = page[1]["dead"].axes
    assert [ax.get_title() for ax in axes] == ["L1 0.01", "L1 0.1"]
    rows = read_rows(small / "analysis" / "cells.jsonl")
    for ax, k in zip(axes, (0.01, 0.1), strict=True):
        assert [t.get_text() for t in ax.get_xticklabels()] == ["1x", "2x"]
        assert list(lines(ax)) == ["off", "on", "ghost"]
        for way, line in lines(ax).items():
            own = [
                [
                    100 * r["dead"]
                    for r in rows
                    if (r["l1"], r["resample"], r["seed"]) == (k, way, seed)
                ]
                for seed in (0, 1)
            ]
            np.testing.assert_allclose(line.get_ydata(), np.mean(own, 0))
            dots = [
                d.get_ydata()
                for d in ax.lines
                if d.get_marker() == "o" and d.get_color() == line.get_color()
            ]
            np.testing.assert_allclose(dots, own)
    # Each way has a colour of its own.
    assert len({to_hex(line.get_color()) for line in lines(axes[0]).values()}) == 3


@pytest.mark.parametrize("expansions", [GPT2_EXPANSION, (4.0, 8.0)])
def test_the_texts_numbers_are_dashed_where_they_are_of_the_same_expansions(tmp_path, expansions):
    path = make(tmp_path / "run", expansions, l1=(0.0001, 0.3), ways=("on", "off"), seeds=(0,))
    _, figures = drawn(path)
    for name, what in (("dead", "dead"), ("monosemantic_offline", "monosemantic")):
        low, high = figures[name].axes
        got = {k: v for k, v in lines(low).items() if "published" in k}
        assert not any("published" in k for k in lines(high))
        if expansions != GPT2_EXPANSION:
            assert not got
            continue
        assert {*got} == {"on, published (GPT-2)", "off, published (GPT-2)"}
        for way in ("on", "off"):
            line = got[f"{way}, published (GPT-2)"]
            np.testing.assert_allclose(line.get_ydata(), GPT2[what][way][0.0001])
            assert line.get_linestyle() == "--"
            assert line.get_color() == lines(low)[way].get_color()


def test_dead_latents_over_training_are_shares_of_each_width(page):
    figure = page[1]["dead_over_training"]
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["L1 0.01, 1x", "L1 0.01, 2x", "L1 0.1, 1x", "L1 0.1, 2x"]
    for ax, (k, ratio) in zip(figure.axes, product((0.01, 0.1), (1.0, 2.0)), strict=True):
        assert list(lines(ax)) == ["off", "on", "ghost"]
        for way, line in lines(ax).items():
            share = np.mean([dead_share(way, ratio, k, i) for i in (0, 1)])
            np.testing.assert_allclose(line.get_xdata(), STEPS)
            np.testing.assert_allclose(line.get_ydata(), 100 * share * np.array([0.5, 1.5, 1]))
        # Resampling at 12 and 24 of 30 steps.
        marks = [line.get_xdata()[0] for line in ax.lines if line.get_color() == "0.85"]
        assert marks == [12, 24]


def test_rates_and_losses_have_a_picture_each(page):
    axes = page[1]["monosemantic_a-model"].axes
    np.testing.assert_allclose(lines(axes[0])["on"].get_ydata(), [60, 60])
    np.testing.assert_allclose(lines(page[1]["fvu"].axes[1])["off"].get_ydata(), 0.305)
    np.testing.assert_allclose(lines(page[1]["recovered_mean"].axes[1])["off"].get_ydata(), 0.71)


def test_the_maps_are_of_off_and_on_at_every_l1(page):
    titles = [page[1][f"correlation_{i}"].axes[0].get_title().split("\n")[0] for i in range(4)]
    assert titles == [
        f"1x, L1 {k}, resample {way}, seed 0" for k in (0.01, 0.1) for way in ("off", "on")
    ]


def test_a_map_shows_every_correlation_at_the_place_of_its_names(page, small):
    ax = page[1]["correlation_0"].axes[0]
    names = [t.get_text() for t in ax.get_yticklabels()]
    latents_shown = [int(name.split(":")[0]) // 3 for name in names]
    assert names[0] == f"{3 * latents_shown[0]}: theme {latents_shown[0]} by a/model"
    # Latents that belong together stand together.
    assert np.count_nonzero(np.diff(np.array(latents_shown) % 2)) == 1
    with np.load(small / "analysis.npz") as file:
        correlation = file["correlation/1x_l1-0.01_off_seed-0"]
    expected = correlation[np.ix_(latents_shown, latents_shown)]
    np.testing.assert_allclose(ax.images[0].get_array(), expected)
    # The two of high selectivity are 0 and 1.
    colours = {i: t.get_color() for i, t in zip(latents_shown, ax.get_yticklabels(), strict=True)}
    assert colours == {0: "tab:blue", 1: "tab:blue", 2: "tab:orange", 3: "tab:orange"}
    # The scale is that of what is off the diagonal.
    off = np.abs(expected[~np.eye(4, dtype=bool)]).max()
    assert ax.images[0].get_clim() == pytest.approx((-off, off))


@pytest.mark.parametrize("n", [4, 9, 30])
def test_planted_blocks_stand_together(n):
    order = gpt2_figures.cluster_order(block(n, seed=n))
    assert sorted(order) == [*range(n)]
    assert np.count_nonzero(np.diff(order % 2)) == 1


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_an_order_is_a_permutation_of_whatever_it_is_of(n):
    rng = np.random.default_rng(n)
    alike, opposite = np.ones((n, n)), 2 * np.eye(n) - 1
    for correlation in (rng.uniform(-1, 1, (n, n)), np.zeros((n, n)), np.eye(n), alike, opposite):
        before = correlation.copy()
        assert sorted(gpt2_figures.cluster_order(correlation)) == [*range(n)]
        np.testing.assert_array_equal(correlation, before)


def test_a_map_of_two_uncorrelated_latents_has_a_scale():
    ax = gpt2_figures.correlation_map(np.eye(2), ["a", "b"], [True, False], "t").axes[0]
    assert ax.images[0].get_clim() == (-0.05, 0.05)
