"""The command of the baselines study and its page."""

import csv
import json
import re
import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from helpers import commands

from saejax import Settings, Sweep, Synthetic, report, train
from saejax.analysis import baseline_fits
from saejax.experiments.baselines import __main__ as baselines
from saejax.experiments.baselines import page as page_of_baselines
from saejax.experiments.common import command

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("sklearn", "kmedoids"))), reason="needs sklearn and kmedoids"
)
DATA = {
    kind: Synthetic(kind, d_in=6, n_features=8, avg_active=1.5, feature_decay=0.98)
    for kind in ("uncorrelated", "correlated")
}
TINY = [
    "--d_in=6",
    "--n_features=8",
    "--avg_active=1.5",
    "--feature_decay=0.98",
    "--batch_size=16",
    "--seeds=0,1",
    "--sizes=16,32",
    "--kmeans_sizes=64",
    "--tsne_samples=40",
    "--decays=0.9,1",
]
FAST = ["--datasets=uncorrelated", "--methods=kmeans,ica", "--decays=", "--seeds=0-2"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Workdir of a small grid on the same data."""
    path = tmp_path_factory.mktemp("grid") / "run"
    train(
        Sweep(l1=(0.01, 0.1), ratio=(1, 2), seeds=(0, 1), lr=0.01),
        DATA,
        Settings(steps=4, batch_size=16, eval_every=2),
        workdir=path,
        progress=False,
        study={"name": "grid"},
    )
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, grid):
    path = tmp_path_factory.mktemp("baselines") / "run"
    with commands.parsing(baselines) as parse:
        baselines.main(parse(*TINY, f"--grid_workdir={grid}", f"--workdir={path}"))
    return path


def fits_of(path):
    return [json.loads(line) for line in (path / "fits.jsonl").read_text().splitlines()]


def fit_of(row):
    return row["dataset"], row["method"], row["n_samples"], row["seed"]


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def arrays_of(path):
    with np.load(path) as file:
        return dict(file)


# ---------------------------------------------------------------------------------------- a run


def test_the_command_leaves_fits_arrays_claims_and_a_page(finished):
    path = finished
    assert {p.name for p in path.iterdir()} == {
        "run.json",
        "config.flags",
        "fits.jsonl",
        "representedness.npz",
        "tsne.npz",
        "claims.jsonl",
        "figures",
        "tables",
        "report.html",
    }
    assert {p.name for p in (path / "figures").iterdir()} == {
        "tsne.png",
        *(f"{name}_{data}.png" for name in ("mmcs", "representedness") for data in DATA),
    }
    tables = {"claims.csv", "methods.csv", "convergence.csv", "fits.csv"}
    assert {p.name for p in (path / "tables").iterdir()} == tables
    page = (path / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r"(?:src|href)\s*=\s*[\"']?([^\"'>\s]+)", page)
    assert [source.partition(",")[0] for source in sources] == ["data:image/png;base64"] * 5
    assert "did not finish" not in page
    assert "--grid_workdir." not in page


def test_every_fit_has_a_row(finished):
    fits = fits_of(finished)
    found = [fit_of(row) for row in fits]
    methods = ("kmeans", "kmedoids", "pca", "ica")
    expected = [(k, m, n, s) for k in DATA for m in methods for n in (16, 32) for s in (0, 1)]
    assert sorted(found) == sorted(
        [*expected, *((k, "kmeans", 64, s) for k in DATA for s in (0, 1))]
    )
    assert len(rows_of(finished / "tables" / "fits.csv")) == len(fits) == 36


def test_a_fit_by_hand(finished):
    x = baseline_fits.samples_of(DATA["correlated"], 1, 32, 16).astype(float)
    _, _, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
    axes *= np.sign(axes[np.arange(6), np.abs(axes).argmax(1)])[:, None]
    cosine = np.asarray(baseline_fits.truth_of(DATA["correlated"], 1).F, float) @ axes.T
    at = ("correlated", "pca", 32, 1)
    (row,) = [row for row in fits_of(finished) if fit_of(row) == at]
    assert row["mmcs"] == pytest.approx(cosine.max(1).mean(), abs=1e-5)
    assert row["mmcs_either_sign"] == pytest.approx(np.abs(cosine).max(1).mean(), abs=1e-5)


def test_methods_stand_at_their_largest_size_beside_the_published_figures(finished):
    rows = rows_of(finished / "tables" / "methods.csv")
    fits = fits_of(finished)
    names = {"k-means": "kmeans", "k-medoids": "kmedoids", "PCA": "pca", "ICA": "ica"}
    assert len(rows) == 8
    for row in rows:
        method, n = names[row["method"]], 64 if row["method"] == "k-means" else 32
        own = [
            fit["mmcs"]
            for fit in fits
            if (fit["dataset"], fit["method"], fit["n_samples"]) == (row["data"], method, n)
        ]
        assert int(row["samples"]) == n
        assert float(row["mmcs"]) == pytest.approx(np.mean(own), abs=1e-6)
        assert float(row["sd"]) == pytest.approx(np.std(own, ddof=1), abs=1e-6)
    assert [
        float(row["published_at_d_in_256"]) for row in rows if row["data"] == "uncorrelated"
    ] == [0.56, 0.21, 0.17, 0.17]


def test_representedness_is_that_of_the_largest_common_size(finished, grid):
    arrays = arrays_of(finished / "representedness.npz")
    fits = {fit_of(row): row["mmcs"] for row in fits_of(finished)}
    result = arrays_of(grid / "results.npz")
    for d, data in enumerate(DATA):
        for method in ("kmeans", "kmedoids", "pca", "ica"):
            cosine = arrays.pop(f"{data}/{method}")
            expected = [fits[data, method, 32, seed] for seed in (0, 1)]
            np.testing.assert_allclose(cosine.mean(1), expected, atol=1e-6)
        final = result["final/mmcs_true_to_dict"][d, :, :, :, 0, 0, 0, 0].mean(0)
        wide, narrow = int(final.max(1).argmax()), 0
        for ratio in {wide, narrow}:
            l1 = int(final[ratio].argmax())
            cosine = arrays.pop(f"{data}/SAE, ratio {ratio + 1}, L1 {(0.01, 0.1)[l1]}")
            expected = result["best_cosine"][-1, d, :, ratio, l1, 0, 0, 0, 0]
            np.testing.assert_array_equal(cosine, expected)
    assert not arrays


def test_maps_name_the_strongest_feature_of_every_sample(finished):
    arrays = arrays_of(finished / "tsne.npz")
    assert {*arrays} == {
        f"{k}/{d}/{p}" for k in DATA for d in ("0.9", "1") for p in ("places", "strongest")
    }
    for data, spec in DATA.items():
        codes = baseline_fits.codes_of(replace(spec, feature_decay=0.9), 0, 40, 16)
        expected = [int(row.argmax()) if row.any() else -1 for row in codes]
        np.testing.assert_array_equal(arrays[f"{data}/0.9/strongest"], expected)
        places = arrays[f"{data}/0.9/places"]
        assert places.shape == (40, 2)
        assert (places.std(0) > 0).all()
    assert (arrays["uncorrelated/0.9/strongest"] == -1).any()


def test_claims_are_answered_with_the_sae_runs(finished):
    rows = rows_of(finished / "tables" / "claims.csv")
    fits = {fit_of(row): row["mmcs"] for row in fits_of(finished)}
    (row,) = [
        row
        for row in rows
        if (row["claim"], row["data"]) == ("k-means beats PCA", "uncorrelated")
        and "either sign" not in row["measure"]
    ]
    gaps = [
        fits["uncorrelated", "kmeans", 32, s] - fits["uncorrelated", "pca", 32, s] for s in (0, 1)
    ]
    assert float(row["mean"]) == pytest.approx(np.mean(gaps), abs=1e-6)
    assert int(row["seeds"]) == 2
    saes = [row for row in rows if row["claim"] == "SAEs with the right l1 beat k-means"]
    assert saes
    assert all(row["mean"] for row in saes)
    assert any(row["claim"] == "undersized dictionaries unlearn features" for row in rows)


def test_a_page_made_again_is_the_same_to_the_byte(finished):
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    shutil.rmtree(finished / "figures")
    shutil.rmtree(finished / "tables")
    (finished / "report.html").unlink()
    report.write(finished)
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before


def test_the_flags_of_a_run_describe_it_again(finished, grid, parse):
    parse(*TINY, f"--grid_workdir={grid}", f"--workdir={finished}")
    plan, maps, result = baselines.config()
    parse(f"--flagfile={finished / 'config.flags'}")
    again = baselines.config()
    assert again[:2] == (plan, maps)
    assert result is not None
    assert again[2] is not None
    assert again[2].run == result.run
    assert command.flagfile(baselines.FLAGS) == (finished / "config.flags").read_text()


# ---------------------------------------------------------------------------------------- mishaps


@pytest.mark.filterwarnings("error")
def test_failed_and_unconverged_fits_are_shown(tmp_path, parse, monkeypatch):
    whole, drawn, draw = baselines.baselines.fit, [], page_of_baselines.figures.boxes

    def fit(method, x, n_components, seed, max_iter):
        found = whole(method, x, n_components, seed=seed, max_iter=max_iter)
        if method == "ica" and len(x) == 16:
            return replace(
                found,
                dictionary=found.dictionary[:0],
                converged=False,
                iterations=None,
                message="<b>singular",
            )
        late = method == "kmeans" and len(x) == 64 and seed == 1
        return replace(found, converged=not late, iterations=7, message="slow" if late else "")

    def boxes(*arguments):
        drawn.append(arguments)
        return draw(*arguments)

    monkeypatch.setattr(baselines.baselines, "fit", fit)
    monkeypatch.setattr(page_of_baselines.figures, "boxes", boxes)
    path = tmp_path / "run"
    baselines.main(parse(*TINY, *FAST, f"--workdir={path}"))
    rows = rows_of(path / "tables" / "convergence.csv")
    assert [list(row.values())[:6] for row in rows] == [
        ["k-means", "uncorrelated", "16", "3 of 3", "0", "7 to 7"],
        ["ICA", "uncorrelated", "16", "0 of 3", "3", ""],
        ["k-means", "uncorrelated", "32", "3 of 3", "0", "7 to 7"],
        ["ICA", "uncorrelated", "32", "3 of 3", "0", "7 to 7"],
        ["k-means", "uncorrelated", "64", "2 of 3", "0", "7 to 7"],
    ]
    assert [row["messages"] for row in rows] == ["", "<b>singular", "", "", "slow"]
    ((panels, *_),) = drawn
    shown = {
        name: [(box.n_samples, box.unconverged) for box in each] for name, each in panels.items()
    }
    assert shown == {"k-means": [(16, 0), (32, 0), (64, 1)], "ICA": [(16, 3), (32, 0)]}
    assert np.isnan(panels["ICA"][0].mmcs).all()
    page = (path / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;singular" in page
    assert "<b>" not in page
    # Neither a grid nor a decay was given.
    assert (
        "Claims about SAEs need a run of the grid study on the same data: --grid_workdir." in page
    )
    assert "What the data look like" not in page
    assert not (path / "figures" / "tsne.png").exists()


def interrupted_after(n, monkeypatch):
    whole = baseline_fits.compare

    def compare(plan):
        for i, found in enumerate(whole(plan)):
            if i == n:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(baseline_fits, "compare", compare)


def test_an_interrupted_run_shows_its_fits(tmp_path, parse, monkeypatch):
    interrupted_after(4, monkeypatch)
    path = tmp_path / "run"
    with pytest.raises(
        SystemExit, match=f"^interrupted; what was measured so far is in {path}, and"
    ):
        baselines.main(parse(*TINY, *FAST, f"--workdir={path}"))
    page = report.write(path).read_text(encoding="utf-8")
    assert "This run did not finish: it made 4 fits, and maps and claims are absent." in page
    assert len(rows_of(path / "tables" / "fits.csv")) == 4
    assert {p.name for p in (path / "figures").iterdir()} == {"mmcs_uncorrelated.png"}


def test_a_run_interrupted_before_its_first_fit_leaves_nothing(tmp_path, parse, monkeypatch):
    interrupted_after(0, monkeypatch)
    path = tmp_path / "run"
    with pytest.raises(SystemExit, match=r"^interrupted before anything was measured$"):
        baselines.main(parse(*TINY, *FAST, f"--workdir={path}"))
    assert not path.exists()
    path.mkdir()
    with pytest.raises(SystemExit, match=r"^interrupted before anything was measured$"):
        baselines.main(parse(*TINY, *FAST, f"--workdir={path}"))
    assert list(path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "package"), [("sklearn", "scikit-learn"), ("kmedoids", "kmedoids")]
)
def test_a_missing_package_ends_the_command_before_anything_is_written(
    tmp_path, parse, monkeypatch, module, package
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as error:
        baselines.main(parse(*TINY, f"--workdir={tmp_path / 'run'}"))
    expected = f'error: the baselines study needs {package}: pip install "saejax[studies]"'
    assert error.value.code == expected
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------- other
# grids


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--d_in=7", "d_in: got 7, allowed with this grid_workdir: 6, as its SAEs"),
        ("--n_features=7", "n_features: got 7, allowed with this grid_workdir: 8"),
        ("--avg_active=1.4", r"avg_active: got 1\.4, allowed with this grid_workdir: 1\.5"),
        ("--feature_decay=0.9", r"feature_decay: got 0\.9, allowed with this grid_workdir: 0\.98"),
        ("--batch_size=8", "batch_size: got 8, allowed with this grid_workdir: 16"),
        (
            "--datasets=copula",
            "datasets: got 'copula', allowed with this grid_workdir: uncorrelated, correlated",
        ),
    ],
)
def test_a_grid_on_other_data_is_refused(parse, grid, tmp_path, flag, message):
    arguments = parse(*TINY, f"--grid_workdir={grid}", f"--workdir={tmp_path / 'run'}", flag)
    with pytest.raises(SystemExit, match=f"^error: {message}"):
        baselines.main(arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_grid_on_a_copula_of_another_strength_is_refused(parse, grid, tmp_path):
    other = shutil.copytree(grid, tmp_path / "grid")
    run = json.loads((other / "run.json").read_text())
    run["data"]["copula"] = run["data"]["correlated"] | {"kind": "copula", "copula_strength": 0.9}
    (other / "run.json").write_text(json.dumps(run))
    parse(*TINY, f"--grid_workdir={other}", "--datasets=copula")
    with pytest.raises(ValueError, match=r"^copula_strength: got 0\.5, allowed .*: 0\.9"):
        baselines.config()
    # The other kinds do not read it.
    run["data"]["correlated"]["copula_strength"] = 0.9
    (other / "run.json").write_text(json.dumps(run))
    parse(*TINY, f"--grid_workdir={other}")
    assert baselines.config()[2] is not None


def test_a_folder_without_a_finished_grid_is_refused(parse, grid, finished, tmp_path):
    unfinished = shutil.copytree(grid, tmp_path / "unfinished")
    run = json.loads((unfinished / "run.json").read_text()) | {"finished": False}
    (unfinished / "run.json").write_text(json.dumps(run))
    # A run that was cut short, one of another study, and no run at all.
    for folder in (unfinished, finished, tmp_path / "none"):
        arguments = parse(*TINY, f"--grid_workdir={folder}", f"--workdir={tmp_path / 'run'}")
        expected = f"^error: grid_workdir: got '{folder}', allowed: a finished grid run$"
        with pytest.raises(SystemExit, match=expected):
            baselines.main(arguments)
        assert not (tmp_path / "run").exists()


def test_a_grid_without_a_trained_sae_is_refused_before_the_fits(parse, grid, tmp_path):
    frozen = shutil.copytree(grid, tmp_path / "grid")
    arrays = arrays_of(frozen / "results.npz")
    arrays["final/frozen_at"][:] = 3
    np.savez(frozen / "results.npz", **arrays)
    arguments = parse(*TINY, f"--grid_workdir={frozen}", f"--workdir={tmp_path / 'run'}")
    with pytest.raises(SystemExit, match=r"^error: .*no cell in question has a value"):
        baselines.main(arguments)
    assert not (tmp_path / "run").exists()
