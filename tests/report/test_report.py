"""Figures and page of a workdir, and the published maps beside them; nothing here trains."""

import io
import re
import struct
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from scipy.stats import rankdata

from saejax import Params, Result, Settings, Sweep, Synthetic, load, report
from saejax.core import stats
from saejax.experiments.grid import published as grid_published
from saejax.experiments.grid.figures import beside_published, comparisons
from saejax.report import __main__ as cli
from saejax.results.axes import ABSENT
from saejax.results.figures import HEATMAPS, frontier, heatmaps, training, variants
from saejax.results.pictures import TRACKED
from saejax.results.plots import sweep as sweep_plots
from saejax.results.workdir import RunLog
from saejax.training.planning import make_plan

SPEC = Synthetic("uncorrelated", d_in=6, n_features=8, avg_active=2.0)
SETTINGS = Settings(steps=30, eval_every=10, batch_size=8)
SWEEP = Sweep(l1=(0.1, 0.01), ratio=(0.5, 2, 1, 4), seeds=(0, 1))
HOSTILE = "<b>&"
FLAGS = "--workdir=<script>alert(1)</script>\n"
METRICS = (
    "mmcs_true_to_dict",
    "mmcs_dict_to_true",
    "mse",
    "l1_loss",
    "l0",
    "fvu",
    "dead_latents",
    "learned",
    "unlearned",
    "kept",
    "moved",
    "represented",
)


def make(data=SPEC, sweep=SWEEP, seed=0):
    """A result with invented measurements, one of its cells frozen."""
    plan = make_plan(sweep, data, SETTINGS)
    rng = np.random.default_rng(seed)
    history = {name: rng.uniform(0.1, 1, (3, *plan.shape)) for name in METRICS}
    history["frozen_at"] = np.full((3, *plan.shape), -1)
    history["frozen_at"][1:, 0, 0, 0, 1] = 11
    final = {name: a[-1] for name, a in history.items()}
    final["mmcs_to_next_larger"] = rng.uniform(size=plan.shape)
    final["mmcs_to_next_larger"][:, :, int(np.argmax(plan.d_sae))] = np.nan
    weights = Params(np.zeros((6, 4)), np.zeros(4), np.zeros((4, 6)))  # pyright: ignore
    return Result(
        coords=plan.coords,
        d_sae=plan.d_sae,
        run=plan.describe() | {"compile_seconds": 1.0, "train_seconds": 2.0},
        steps=np.array([10, 20, 30]),
        history=history,
        final=final,
        best_index=None,
        best_cosine=None,
        features=None,
        load_params=lambda index: weights,
    )


def write_run(path, result, evaluations, finished):
    log = RunLog(path, result.run, FLAGS)
    for i in range(evaluations):
        measured = {name: a[i] for name, a in result.history.items()}
        log.evaluation(int(result.steps[i]), result.coords, result.d_sae, measured)
    if finished:
        log.finish(result)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished")
    write_run(path, make(), 3, finished=True)
    page = report.write(path)
    assert page == path / "report.html"
    return path, page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    path = tmp_path_factory.mktemp("unfinished")
    result = make({"plain": SPEC}, Sweep(l1=(0.1, 0.01), ratio=1))
    coords = result.coords | {"dataset": (HOSTILE,)}
    run = result.run | {"coords": coords, "data": {HOSTILE: result.run["data"]["plain"]}}
    result = replace(result, coords=coords, run=run)
    write_run(path, result, 2, finished=False)
    return report.write(path).read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------- page


def test_a_run_in_which_every_cell_froze_still_has_a_page(tmp_path):
    result = make()
    result.history["frozen_at"][:] = 3
    write_run(tmp_path, result, 3, finished=False)
    page = report.write(tmp_path).read_text(encoding="utf-8")
    assert page.count("was not finite at step 3") == result.history["frozen_at"][0].size


def test_every_figure_is_a_picture_of_its_own(finished):
    path, page = finished
    files = sorted((path / "figures").iterdir())
    names = {p.name for p in files}
    assert {f"heatmap_{m}.png" for m in HEATMAPS} <= names
    assert {f"published_{m}_uncorrelated.png" for m in HEATMAPS} <= names
    assert {f"training_{m}_uncorrelated.png" for m in TRACKED} <= names
    assert "frontier.png" in names
    assert len(files) == page.count("<img ") == 14
    for file in files:
        head = file.read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n", file.name
        width, height = struct.unpack(">II", head[16:24])
        assert width > 300, file.name
        assert height > 250, file.name


def test_page_needs_no_other_file(finished):
    _, page = finished
    targets = re.findall(r"(?:src|href)\s*=\s*[\"']?([^\"'>\s]+)", page)
    assert targets
    assert all(target.startswith("data:image/png;base64,") for target in targets)
    assert "url(" not in page
    assert "<link" not in page


def test_page_holds_the_table_the_settings_and_the_comparison(finished):
    path, page = finished
    result = load(path)
    assert result.table().to_html() in page
    assert result.table(over_seeds=True).to_html() in page
    assert comparisons(result).to_html() in page
    assert "<td>batch_size</td><td>8</td>" in page
    assert "did not finish" not in page
    assert "seed=0, ratio=0.5, l1=0.01" in page
    assert "not finite at step 11" in page


def test_page_names_the_best_cell(finished):
    path, page = finished
    best = load(path).best("mmcs_true_to_dict")
    assert f"L1 {best['l1']:.2g} and ratio {best['ratio']:g}" in page
    assert f"MMCS {best['mmcs_true_to_dict']:.3f}" in page


def test_page_made_again_is_the_same(finished):
    path, page = finished
    before = {p.name: p.read_bytes() for p in (path / "figures").iterdir()}
    rest = {p: p.read_bytes() for p in path.iterdir() if p.is_file() and p.name != "report.html"}
    (path / "report.html").unlink()
    report.write(path)
    assert (path / "report.html").read_text(encoding="utf-8") == page
    assert {p.name: p.read_bytes() for p in (path / "figures").iterdir()} == before
    assert all(p.read_bytes() == data for p, data in rest.items())


def test_pictures_are_drawn_from_python_without_a_file(finished):
    path, _ = finished
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    pictures = report.figures(str(path))
    assert {f"{name}.png" for name in pictures} == {p.name for p in (path / "figures").iterdir()}
    assert all(isinstance(picture, Figure) for picture in pictures.values())
    image = io.BytesIO()
    pictures["heatmap_mse"].savefig(image, format="png", dpi=120)
    assert image.getvalue() == (path / "figures" / "heatmap_mse.png").read_bytes()
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before


def test_pictures_of_a_folder_without_a_run_are_an_error(tmp_path):
    for drawn in (report.figures, report.films):
        with pytest.raises(FileNotFoundError, match=r"workdir: got .*no run"):
            drawn(tmp_path)


def test_text_is_escaped(finished, unfinished):
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in finished[1]
    for page in (finished[1], unfinished):
        assert "<script" not in page
    assert "&lt;b&gt;&amp;" in unfinished
    assert HOSTILE not in unfinished


def test_an_unfinished_run_says_so(unfinished):
    assert "This run did not finish: it was measured up to step 20 of 30" in unfinished
    assert "<table>" in unfinished
    assert "Spearman" not in unfinished


# ---------------------------------------------------------------------------------------- command


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--help"]])
def test_command_without_one_workdir_says_how(monkeypatch, arguments):
    monkeypatch.setattr(sys, "argv", ["report", *arguments])
    with pytest.raises(SystemExit, match=r"usage: python -m saejax\.report WORKDIR"):
        cli.main()


def test_command_on_a_folder_without_a_run_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"error: workdir: got .*no run"):
        cli.main()
    assert list(tmp_path.iterdir()) == []


def test_command_on_a_run_without_evaluations_is_an_error(monkeypatch, tmp_path):
    write_run(tmp_path, make(), 0, finished=False)
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"error: .*before its first evaluation"):
        cli.main()


# ---------------------------------------------------------------------------------------- published


def test_published_maps_have_one_value_a_cell():
    grid = grid_published.grid()
    assert grid["ratios"] == [0.25, 0.5, 1, 2, 4, 8, 16, 32]
    np.testing.assert_allclose(grid["l1"], 10 ** (np.arange(-8, -2) / 4), rtol=1e-6)
    assert set(grid["maps"]) == {"uncorrelated"}
    maps = grid["maps"]["uncorrelated"]
    assert set(maps) == set(HEATMAPS)
    for name, values in maps.items():
        assert values.shape == (8, 6)
        missing = np.zeros((8, 6), bool)
        missing[-1] = name == "mmcs_to_next_larger"
        np.testing.assert_array_equal(np.isnan(values), missing, err_msg=name)
    assert maps["dead_latents"].min() >= 0
    assert 0 <= np.nanmin(maps["mmcs_true_to_dict"]) <= np.nanmax(maps["mmcs_true_to_dict"]) <= 1


def test_rank_correlation_is_pearsons_of_the_ranks():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, (2, 5, 6)).astype(float)
    a[0, 1] = b[3, 2] = b[0, 1] = np.nan
    both = np.isfinite(a) & np.isfinite(b)
    expected = np.corrcoef(rankdata(a[both]), rankdata(b[both]))[0, 1]
    assert grid_published.rank_correlation(a, b) == pytest.approx(expected, rel=1e-12)
    assert grid_published.rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert grid_published.rank_correlation(a, -a) == pytest.approx(-1)


def test_beside_cuts_both_maps_to_the_cells_that_both_have():
    result = make(sweep=Sweep(l1=(0.1, 0.5, 0.01), ratio=(32, 0.5, 3), seeds=(0, 1)))
    assert grid_published.shared(result) == ([32.0, 0.5], [0.1, 0.01])
    pair = grid_published.beside(result, "uncorrelated", "mse")
    assert pair is not None
    ours = np.where(result.final["frozen_at"] < 0, result.final["mse"], np.nan)[0, ..., 0, 0, 0, 0]
    np.testing.assert_allclose(pair[0], np.nanmean(ours, axis=0)[:2][:, [0, 2]])
    np.testing.assert_array_equal(
        pair[1], grid_published.grid()["maps"]["uncorrelated"]["mse"][[7, 1]][:, [4, 0]]
    )
    one = grid_published.beside(result, "uncorrelated", "mse", seed=1)
    assert one is not None
    np.testing.assert_array_equal(one[0], ours[1][:2][:, [0, 2]])


def test_beside_is_none_where_there_is_nothing_to_compare():
    result = make()
    assert grid_published.beside(result, "correlated", "mse") is None
    assert grid_published.beside(result, "uncorrelated", "fvu") is None
    few = make(sweep=Sweep(l1=(0.1, 0.01), ratio=1))
    assert grid_published.beside(few, "uncorrelated", "mse") is None
    assert comparisons(few) == []


def test_a_swept_learning_rate_is_compared_value_by_value():
    rates = make(sweep=Sweep(l1=(0.1, 0.01), ratio=(1, 2, 4), lr=(1e-3, 1e-2)))
    rows = [row for row in comparisons(rates) if row["metric"] == "mse"]
    assert [row["lr"] for row in rows] == [1e-3, 1e-2]
    for row in rows:
        pair = grid_published.beside(rates, "uncorrelated", "mse", lr=row["lr"])
        assert pair is not None
        assert row["spearman"] == grid_published.rank_correlation(*pair)
    pictures = [name for name, _, _ in beside_published(rates)]
    assert {"published_mse_uncorrelated_lr-0.001", "published_mse_uncorrelated_lr-0.01"} <= {
        *pictures
    }


def test_comparisons_give_the_mean_map_and_the_range_over_seeds():
    result = make()
    rows = comparisons(result)
    assert [row["metric"] for row in rows] == list(HEATMAPS)
    theirs = grid_published.grid()["maps"]["uncorrelated"]["mse"][[1, 3, 2, 4]][:, [4, 0]].ravel()
    ours = np.where(result.final["frozen_at"] < 0, result.final["mse"], np.nan)[0, ..., 0, 0, 0, 0]

    def spearman(values):
        kept = np.isfinite(values.ravel())
        return np.corrcoef(rankdata(values.ravel()[kept]), rankdata(theirs[kept]))[0, 1]

    row = rows[1]
    assert row["cells"] == 8
    assert row["spearman"] == pytest.approx(spearman(np.nanmean(ours, axis=0)))
    single = sorted(spearman(ours[s]) for s in (0, 1))
    assert [row["lowest_seed"], row["highest_seed"]] == pytest.approx(single)
    assert rows[2]["cells"] == 6


def test_comparisons_have_the_same_columns_where_a_seed_has_too_few_cells():
    rows = comparisons(make(sweep=Sweep(l1=(0.1, 0.01), ratio=(0.5, 2, 1), seeds=(0, 1))))
    assert [row["metric"] for row in rows] == list(HEATMAPS)
    assert len({tuple(row) for row in rows}) == 1
    assert "<table>" in rows.to_html()


# ---------------------------------------------------------------------------------------- plots


def test_plots_return_figures_and_leave_pyplot_alone(finished):
    mean = np.array([[0.2, np.nan], [0.4, 3.0]])
    axes = [0.5, 2.0], [0.01, 0.1]
    over_time = np.stack([mean, mean + 1])
    drawn = [
        sweep_plots.heatmaps({"a": (mean, mean), "b": (mean, mean)}, *axes, "mse", n_seeds=2),
        sweep_plots.heatmaps({"a": (np.full((2, 2), np.nan), mean)}, *axes, "unheard_of"),
        sweep_plots.beside_published(mean, mean, *axes, "dead_latents", 0.9),
        sweep_plots.curves(np.array([1, 2]), over_time, over_time, *axes, "title", "y", 2),
        sweep_plots.frontier({"a": (mean, mean), "b": (mean, 0 * mean)}, *axes),
    ]
    assert all(isinstance(figure, Figure) for figure in drawn)
    assert pyplot.get_fignums() == []


def test_mean_and_spread_leave_out_what_is_missing():
    values = np.array([[1.0, np.nan, np.nan], [4.0, 2.0, np.nan], [7.0, np.nan, np.nan]])
    mean, spread = stats.mean_and_spread(values)
    np.testing.assert_allclose(mean, [4, 2, np.nan])
    np.testing.assert_allclose(spread, [3, np.nan, np.nan])
    assert stats.mean_and_spread(np.array([2.0, 4.0])) == (3.0, pytest.approx(np.sqrt(2)))


def test_variants_get_figures_of_their_own():
    result = make(sweep=Sweep(l1=(0.1, 0.01), ratio=1, lr=(1e-3, 0.1)))
    kept = {k: v for k, v in result.history.items() if k in ("frozen_at", "dead_latents")}
    result = replace(result, history=kept)
    pictures = [
        name
        for variant in variants(result)
        for name, _, _ in [
            *heatmaps(result, variant),
            frontier(result, variant),
            *training(result, variant),
        ]
    ]
    names = [*pictures, *(name for name, _, _ in beside_published(result))]
    assert len(names) == len(set(names))
    for lr in ("0.001", "0.1"):
        assert f"heatmap_mse_lr-{lr}" in names
        assert f"frontier_lr-{lr}" in names
        assert f"training_dead_latents_uncorrelated_lr-{lr}" in names


def test_every_architecture_has_pictures_over_what_makes_it_sparse():
    both = Sweep(l1=(0.1, 0.01), ratio=(1, 2), architecture=("relu", "topk"), k=(1, 2, 3))
    result = make(sweep=both)
    for index in np.ndindex(*result.final["frozen_at"].shape):
        at = dict(zip(result.coords, index, strict=True))
        at = {name: result.coords[name][i] for name, i in at.items()}
        if (at["k"] > 0) != (at["architecture"] == "topk") or (at["l1"] > 0) == (at["k"] > 0):
            result.final["frozen_at"][index] = ABSENT
    assert len(result.cells()) == 2 * 2 + 2 * 3
    for variant, axis, columns in zip(variants(result), ("L1", "k"), (2, 3), strict=True):
        captions = {name: caption for name, caption, _ in heatmaps(result, variant)}
        name = variant.where["architecture"]
        assert captions[f"heatmap_mse_architecture-{name}"].endswith(
            f"over {axis} and dictionary ratio, architecture = {name}."
        )
        own, caption, picture = frontier(result, variant)
        assert own == f"frontier_architecture-{name}"
        assert f"joins the {axis} values" in caption
        points = picture.axes[0].collections[0].get_offsets()
        assert len(points) == columns
        curves = {name: picture for name, _, picture in training(result, variant)}
        picture = curves[f"training_dead_latents_uncorrelated_architecture-{name}"]
        assert len(picture.axes[0].lines) == columns
    assert {row["architecture"] for row in comparisons(result)} <= {"relu"}


def test_a_metric_of_the_users_own_has_a_heat_map():
    result = make()
    result = replace(
        result,
        run=result.run | {"metrics": {"mine": "text"}},
        final=result.final | {"mine": result.final["mse"]},
    )
    (variant,) = variants(result)
    assert "heatmap_mine" in [name for name, _, _ in heatmaps(result, variant)]
