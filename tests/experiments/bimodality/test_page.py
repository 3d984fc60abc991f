"""The page of the bimodality study and its pictures, on workdirs that are made up."""

import csv
import json
import re

import numpy as np
import pytest
from helpers.bimodality_workdir import CLASSES, LABELS, make

from saejax.analysis.mcs import MaxCosine
from saejax.core.files import append_rows, read_rows
from saejax.experiments.bimodality import figures_classes
from saejax.experiments.bimodality import page as bimodality
from saejax.experiments.bimodality import page_classes as explained
from saejax.experiments.language import figures
from saejax.report import rows
from saejax.report.page import Page
from saejax.results.plots.panels import Intervals
from saejax.results.workdir import write_run

pytestmark = pytest.mark.filterwarnings("error")
nan = np.nan


def drawn(path):
    """Text of the page and its figures by name, laid out but not written."""
    figures = {}

    def keep(page, name, caption, figure):
        figure.draw_without_rendering()
        figures[name] = figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Page, "figure", keep)
        return bimodality.build(path).write().read_text(encoding="utf-8"), figures


def change(path, name, of):
    """Changes the rows of a table, or run.json."""
    if name == "run":
        run = json.loads((path / "run.json").read_text())
        of(run)
        return write_run(path, run, run.pop("finished"))
    rows = read_rows(path / "analysis" / f"{name}.jsonl")
    (path / "analysis" / f"{name}.jsonl").unlink()
    return append_rows(
        path / "analysis" / f"{name}.jsonl", [row for row in rows if of(row) is not False]
    )


def texts(ax):
    return [text.get_text() for text in ax.texts]


def heights(ax):
    return [bar.get_height() for bar in ax.patches]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make(tmp_path_factory.mktemp("small") / "run", sizes=(16, 32, 64))


@pytest.fixture(scope="module")
def page(small):
    return drawn(small)


@pytest.fixture(scope="module")
def arrays(small):
    with np.load(small / "analysis.npz") as file:
        return dict(file)


# ---------------------------------------------------------------------------------------- whole
# pages


def test_one_seed_and_one_pair_of_sizes_make_a_page_that_needs_no_other_file(tmp_path):
    path = make(tmp_path / "run", sizes=(16, 32), seeds=(3,), l1=(0.01,))
    text = bimodality.build(path).write().read_text(encoding="utf-8")
    kept = {p.stem for p in (path / "figures").iterdir()}
    assert kept == {
        "loss",
        "dictionaries",
        "mcs",
        "pairs",
        "below_cutoff",
        "emd",
        "emd_over_sizes",
        "high_and_low",
        "firing",
        "effects",
        "classes",
    }
    targets = re.findall(r"src=\"([^\"]{22})", text)
    assert targets == ["data:image/png;base64,"] * len(kept)
    assert "With one seed there is no other dictionary" in text
    assert "there are not that many sizes" in text
    assert "_sd" not in (path / "tables" / "dictionaries.csv").read_text()


def test_the_page_says_what_was_made_of_what(page, small):
    text, figures = page
    assert {*figures} >= {"correlation", "mcs_other_seeds"}
    for part in (
        "what 12 dictionaries of one language model",
        "21,456 weights",
        "standard &lt;library&gt;",
        "8.25 megabytes",
        "4.500 nats per token",
        "10,000 activations of 32 numbers",
        "16, 32, 64 latents were trained for L1 0.01, 0.001 and 2 seeds each",
        "in 3 s, on cpu",
        "<td>text</td><td>an earlier run</td><td>1.5</td>",
        "<td>MCS has two peaks</td>",
        "65,536 evaluation tokens",
        "It counts as an effect from a limit of 2 on (each dictionary",
        "python -m saejax.experiments.bimodality",
        "--seeds=0,1",
        "<td>study rare_below</td><td>0.001</td>",
    ):
        assert part in text, part
    assert "did not finish" not in text
    assert (small / "tables" / "claims.csv").exists()


def test_tables_have_means_and_deviations_of_every_l1(page, small):
    def table(name):
        with (small / "tables" / f"{name}.csv").open() as file:
            return list(csv.DictReader(file))

    rows = table("dictionaries")
    assert [(row["l1"], row["d_sae"]) for row in rows] == [
        (k, d) for k in ("0.01", "0.001") for d in ("16", "32", "64")
    ]
    assert (float(rows[0]["fvu"]), float(rows[0]["fvu_sd"])) == pytest.approx(
        (0.365, 0.01 / 2**0.5)
    )
    assert rows[0]["mmcs_to_largest"] == ""
    assert len(table("emd")) == len(table("law")) == 8
    assert {row["p_value"] for row in table("emd")} == {"0.25"}
    whole = read_rows(small / "analysis" / "explanation.jsonl")
    own = [r["low_share_dead"] for r in whole if r["l1"] == 0.01 and r["d_sae"] == 32]
    row = next(
        r for r in table("explanation") if (r["l1"], r["d_sae"], r["mcs"]) == ("0.01", "32", "low")
    )
    assert float(row["share_dead"]) == pytest.approx(np.mean(own), rel=1e-6)
    assert float(row["share_dead_sd"]) == pytest.approx(np.std(own, ddof=1), rel=1e-6)
    assert len(table("all_explanation")) == 8


@pytest.mark.parametrize("low", [0.0, 0.6])
def test_no_low_mcs_and_only_dead_latents_are_shown_as_such(tmp_path, low):
    path = make(tmp_path / "run", sizes=(16, 32), l1=(0.01,), low=low, dead=99.0)
    change(path, "explanation", lambda row: row.update(effect_from=None, supported=None))
    text, figures = drawn(path)
    none = "no latent is below the cutoff"
    for name in ("below_cutoff", "emd", "emd_over_sizes"):
        assert (none in texts(figures[name].axes[0])) == (low == 0)
    assert ("no latent has a low MCS, there is nothing to explain" in text) == (low == 0)
    assert texts(figures["effects"].axes[0]) == ["none"] * 4
    assert "a limit on that is not known here" in text


def test_nulls_and_missing_files_leave_gaps(tmp_path):
    path = make(tmp_path / "run", sizes=(16, 32), l1=(0.01,))

    def forget(run):
        run["lm"].update(unigram_entropy=None, parameters=None, rows=[])
        run.update(losses=dict.fromkeys(run["losses"]), finished=False, stages=[])
        run["sweep"]["train_seconds"] = run["corpus"]["text_megabytes"] = None

    change(path, "run", forget)
    change(path, "cells", lambda row: row.update(recovered_zero=None, fvu=None, loss=None))
    for name in ("emd", "explanation", "split"):
        (path / "analysis" / f"{name}.jsonl").unlink()
    (path / "claims.jsonl").unlink()
    text, figures = drawn(path)
    assert "This run did not finish" in text
    assert "Tables without rows: split, explanation.</p>" in text
    assert "an unknown number of weights" in text
    assert {"loss", "classes", "high_and_low"}.isdisjoint(figures)
    axes = figures["dictionaries"].axes
    assert ["not measured" in texts(ax) for ax in axes] == [True, False, False, True, True, False]


def test_one_size_has_nothing_to_be_compared_with(tmp_path):
    text, figures = drawn(make(tmp_path / "run", sizes=(16,), l1=(0.01,)))
    assert "There is one size only" in text
    assert {*figures} == {"loss", "dictionaries"}
    assert "Tables without rows" not in text


def test_a_run_without_an_analysis_is_an_error(tmp_path):
    path = make(tmp_path / "run", sizes=(16, 32), l1=(0.01,))
    (path / "analysis.npz").unlink()
    with pytest.raises(ValueError, match=r"analysis\.npz: the run ended before its analysis"):
        bimodality.build(path)
    with pytest.raises(FileNotFoundError, match="holds no run"):
        bimodality.build(tmp_path)


# ---------------------------------------------------------------------------------------- its
# figures


def test_histograms_are_means_over_seeds_with_their_peaks(page, arrays):
    ax = page[1]["mcs"].axes[1]
    counts = [np.histogram(row, 0.02 * np.arange(51))[0] for row in arrays["mcs/0.01/32/64"]]
    np.testing.assert_allclose(heights(ax), np.mean(counts, 0))
    assert ax.get_title() == "32 against 64 latents\npeaks at 0.32 ± 0.01, 0.98 ± 0.01"
    assert ax.lines[0].get_xdata()[0] == 0.5
    peaks = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(peaks, [0.31, 0.97, 0.33, 0.99])
    ends = [line.get_xdata() for line in ax.lines if line.get_marker() == "|"]
    np.testing.assert_allclose(ends[0], [0.29, 0.34])


def test_every_pair_of_sizes_has_its_share_and_mean(page, arrays):
    share, mmcs = page[1]["pairs"].axes[:2]
    for (i, j), key in {(0, 0): "16/32", (0, 1): "16/64", (1, 1): "32/64"}.items():
        found = arrays[f"mcs/0.01/{key}"]
        assert share.images[0].get_array()[i, j] == pytest.approx((found >= 0.5).mean())
        assert mmcs.images[0].get_array()[i, j] == pytest.approx(found.mean())
    assert share.images[0].get_array().mask.tolist() == [[False, False], [True, False]]
    spread = np.std((arrays["mcs/0.01/16/32"] >= 0.5).mean(1), ddof=1)
    assert texts(share)[0].endswith(f"±{spread:.2f}")


def test_low_mcs_random_ones_and_law_have_the_same_area(page, arrays):
    ax = page[1]["below_cutoff"].axes[1]
    n_low = (arrays["mcs/0.01/32/64"] < 0.5).sum(1)
    bars = [p.get_height() for p in ax.patches if hasattr(p, "get_height")]
    random = next(p for p in ax.patches if p.get_label() == "random, scaled").get_data()
    assert sum(bars) == pytest.approx(n_low.mean())
    assert random.values.sum() == pytest.approx(n_low.mean())
    (law,) = (line for line in ax.lines if line.get_label().startswith("law"))
    assert np.trapezoid(law.get_ydata(), law.get_xdata()) / 0.01 == pytest.approx(
        n_low.mean(), rel=1e-3
    )
    peak = law.get_xdata()[law.get_ydata().argmax()]
    assert peak == pytest.approx(MaxCosine(64, 32, 0.5).mode(), abs=2e-3)
    assert ax.get_title().endswith("distance from the law 0.10 ± 0.00, p 0.5")


def test_distances_are_shown_in_thousandths_with_intervals(page, arrays, small):
    ax = page[1]["emd"].axes[1]
    expected = 1000 * arrays["emd/0.01/32"][0]
    np.testing.assert_allclose(ax.images[0].get_array(), expected)
    number = r"(\d+|\d\.\d)"
    assert texts(ax)[0] == "0"
    assert re.fullmatch(rf"{number}\n\({number} to {number}\)", texts(ax)[1])
    assert [t.get_text() for t in ax.get_xticklabels()] == LABELS
    (ax,) = page[1]["emd_over_sizes"].axes
    rows = [r for r in read_rows(small / "analysis" / "emd.jsonl") if r["l1"] == 0.01]
    means = [np.mean([r["random_alt"] for r in rows if r["d_sae"] == d]) for d in (16, 32)]
    line = next(line for line in ax.lines if line.get_label() == "random to alt params")
    np.testing.assert_allclose(line.get_ydata(), 1000 * np.array(means))
    expected = next(line for line in ax.lines if line.get_marker() == "D")
    np.testing.assert_allclose(expected.get_ydata(), [4, 4])


def test_latents_are_scattered_and_counted(page, arrays):
    (ax,) = page[1]["correlation"].axes
    assert ax.get_title() == "16 latents\nPearson 0.92 ± 0.03, Spearman 0.50 ± 0.00"
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "MCS against 32 latents",
        "MCS against 64 latents",
    )
    for seed, line in enumerate(ax.lines[1:]):
        np.testing.assert_allclose(line.get_xdata(), arrays["mcs/0.01/16/32"][seed])
        np.testing.assert_allclose(line.get_ydata(), arrays["mcs/0.01/16/64"][seed])
    counts, shares = page[1]["high_and_low"].axes
    high = [(arrays[f"mcs/0.01/{d}/64"] >= 0.5).sum(1).mean() for d in (16, 32)]
    np.testing.assert_allclose(heights(counts), [*high, 16 - high[0], 32 - high[1]])
    np.testing.assert_allclose(heights(shares)[:2], 100 * np.array(high) / [16, 32])
    np.testing.assert_allclose(heights(shares)[2:], 100 - 100 * np.array(high) / [16, 32])


def test_firing_colours_latents_by_their_effect():
    frequency, effect = np.array([[0.0, 0.01, 0.1, 1.0]]), np.array([[0.0, 3.0, 1.0, nan]])
    panel = figures_classes.Firing(
        "t", np.array([[0.1, 0.2, 0.3, 0.4]]), frequency, effect, np.array([3.0])
    )
    ax = figures_classes.firing([panel], 0.5, 1e-3).axes[0]
    dots = {line.get_color(): line.get_xydata() for line in ax.lines if line.get_marker() == "."}
    np.testing.assert_allclose(dots[figures_classes.ABOVE], [[-2, 0.2]])
    np.testing.assert_allclose(dots[figures_classes.BELOW], [[-1, 0.3]])
    np.testing.assert_allclose(dots[figures_classes.UNMEASURED], [[0, 0.4]])
    ((x, y),) = dots["0.3"]
    assert x < -3.2
    assert y == 0.1
    assert ax.get_xticklabels()[0].get_text() == "dead"


def test_effects_are_in_units_of_a_random_direction(page, arrays):
    ax = page[1]["effects"].axes[1]
    part = {name: arrays[f"{name}/0.01/32"] for name in ("effect", "control", "other_control")}
    high = (arrays["mcs/0.01/32/64"] >= 0.5) & (arrays["frequency/0.01/32"] > 0)
    known = high & np.isfinite(part["effect"])
    expected = [
        np.median((part[name] / part["control"])[known]) for name in ("effect", "other_control")
    ]
    medians = [line.get_ydata()[0] for line in ax.lines if line.get_color() == "black"]
    assert [v for v in medians if np.isclose(v, expected).any()] == pytest.approx(expected)
    limits = [line.get_ydata()[0] for line in ax.lines if line.get_color() == figures_classes.ABOVE]
    assert limits == [2.0, 2.0]
    assert ax.get_yscale() == "log"
    groups = {"low MCS": (np.array([1e9, 1e-9]), np.array([nan]))}
    figure = figures_classes.effects([figures_classes.Effects("t", groups, np.array([nan]))])
    low, high = figure.axes[0].get_ylim()
    assert low > figures_classes.SHOWN[0] / 10
    assert high < figures_classes.SHOWN[1] * 10


def test_classes_are_stacked_shares():
    shares = {name: np.full((2, 1, 2), nan) for name in CLASSES}
    for name, values in zip(CLASSES, (0.1, 0.2, 0.3, 0.4), strict=True):
        shares[name][:, 0, 0] = values - 0.1, values + 0.1
    ax = figures_classes.classes(shares, np.array([[[5, 0]], [[6, 0]]]), [64]).axes[0]
    np.testing.assert_allclose(heights(ax), [10, 0, 20, 0, 30, 0, 40, 0])
    np.testing.assert_allclose([bar.get_y() for bar in ax.patches][::2], [0, 10, 30, 60])
    assert texts(ax)[:4] == ["10 ± 14", "20 ± 14", "30 ± 14", "40 ± 14"]
    assert texts(ax)[4:6] == ["11", "0"]


def test_losses_and_measurements_are_drawn_where_they_are_known(page):
    (ax,) = page[1]["loss"].axes
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [5.5, 5, 4.5])
    assert ax.lines[2].get_ydata()[0] == 6.5
    assert texts(ax) == ["4.50"]
    assert len(figures.loss_curve(np.ones(1), np.ones(1), np.array([nan]), nan).axes[0].lines) == 2
    axes = page[1]["dictionaries"].axes
    assert "% of d_sae" in axes[2].get_ylabel()
    np.testing.assert_allclose(axes[2].lines[0].get_ydata(), 12.5)
    assert texts(axes[3]) == ["as it is", "mean ablation"]


# ---------------------------------------------------------------------------------------- words


def supported(*each, low=10):
    counts = {f"low_count_{name}": 2 + (name == "noise") for name in CLASSES}
    rows = [
        {"supported": name, "low_n": low, "low_n_measured": 9 if low else 0} | counts
        for name in each
    ]
    return explained.support(rows, 64, 2)


def test_an_explanation_is_supported_only_where_all_seeds_agree():
    figures = "Of 18 measured latents with a low MCS: dead 22 %, noise 33 %, real 22 %, idle 22 %."
    assert supported("dead", "dead") == f"d_sae 64: they are dead (all 2 seeds agree). {figures}"
    split = (
        f"d_sae 64: undecided: the seeds do not agree (1 of 2 for dead, 1 of 2 for real). {figures}"
    )
    assert supported("dead", "real") == split
    assert "(1 of 2 for idle)" in supported(None, "idle")
    assert "(1 of 2 for dead)" in supported("dead")
    assert "undecided: no class holds more than half for sure" in supported(None, None)
    assert "no latent has a low MCS" in supported(None, None, low=0)
    rows = [{"supported": None, "low_n": 7, "low_n_measured": 0}]
    assert (
        explained.support(rows, 64, 1)
        == "d_sae 64: none of the 7 latents with a low MCS was measured."
    )


def test_numbers_in_words():
    one = Intervals(*(np.array([v, nan]) for v in (0.5, 0.4, 0.6)))
    assert rows.said(one) == "0.50 (0.40 to 0.60)"
    assert rows.said(Intervals(np.array([1.0, 2]), *np.full((2, 2), nan)), ".1f") == "1.5 ± 0.7"
    assert rows.said(Intervals(*np.full((3, 2), nan))) == "none"
    assert rows.span(np.array([nan, 0.25, 0.5])) == "0.25 to 0.5"
    assert rows.span(np.array([nan])) == "none"
