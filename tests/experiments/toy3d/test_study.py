"""The command of the toy study, its page and its films."""

import csv
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from helpers import commands
from PIL import Image

from saejax import Synthetic, load, report
from saejax.analysis import baseline_fits
from saejax.experiments.common import command, study
from saejax.experiments.toy3d import __main__ as toy3d
from saejax.experiments.toy3d import figures as toy3d_figures
from saejax.experiments.toy3d import gif
from saejax.experiments.toy3d import page as page_of_toy3d
from saejax.results.plots import sweep as sweep_plots

TINY = [
    "--ratio=1,2",
    "--l1=0.01,0.3",
    "--seeds=3,4",
    "--n_features=4",
    "--batch_size=256",
    "--steps=480",
    "--eval_every=120",
    "--snapshot_every=60",
    "--pca_draws=3",
]
# Every snapshot up to step 200, then one from 200 steps after the last frame on, and the last.
FRAMES = [0, 60, 120, 180, 420, 480]
FILMS = [f"film_ratio-{ratio}_l1-{l1}" for ratio in (1, 2) for l1 in ("0.01", "0.3")]
SPEC = Synthetic("correlated", d_in=3, n_features=4, avg_active=1.5, feature_decay=0.9)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy3d") / "run"
    return path, commands.start("toy3d", *TINY, f"--workdir={path}")


@pytest.fixture
def no_films(monkeypatch):
    """Leaves out of a page what takes long to draw."""
    monkeypatch.setattr(page_of_toy3d, "films", lambda result: [])
    monkeypatch.setattr(page_of_toy3d, "_data", lambda page, result: None)


def copy(path, to, froze=None):
    """A copy of a finished run's results, some of its cells frozen as not finite."""
    to.mkdir()
    for name in ("run.json", "config.flags", "metrics.jsonl"):
        shutil.copy(path / name, to / name)
    for name in ("dictionaries", "snapshots"):
        shutil.copytree(path / name, to / name)
    with np.load(path / "results.npz") as file:
        arrays = dict(file)
    if froze is not None:
        arrays["final/frozen_at"][froze] = 7
        arrays["history/frozen_at"][(slice(None), *froze)] = 7
    np.savez(to / "results.npz", **arrays)
    return to


def snapshots(path, ratio, l1, seed=3):
    with np.load(path / "snapshots" / f"correlated_seed-{seed}_ratio-{ratio}_l1-{l1}.npz") as file:
        return dict(file)


def cosines(a, b):
    return (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------------------------------- a run


def test_the_command_leaves_results_pictures_and_films(finished):
    path, out = finished
    assert out.returncode == 0, out.stderr
    assert {p.name for p in path.iterdir()} == {
        "run.json",
        "config.flags",
        "metrics.jsonl",
        "results.csv",
        "results.npz",
        "dictionaries",
        "snapshots",
        "pca.jsonl",
        "figures",
        "tables",
        "report.html",
    }
    cells = {
        f"correlated_seed-{seed}_ratio-{ratio}_l1-{l1}.npz"
        for seed in (3, 4)
        for ratio in (1, 2)
        for l1 in ("0.01", "0.3")
    }
    for folder in ("dictionaries", "snapshots"):
        assert {p.name for p in (path / folder).iterdir()} == cells
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 4 * 8
    assert {p.name for p in (path / "figures").iterdir()} == {
        "features.png",
        "samples.png",
        "frequencies.png",
        "pca.png",
        "heatmap_mse.png",
        "heatmap_mmcs_true_to_dict.png",
        "heatmap_mmcs_to_next_larger.png",
        "heatmap_dead_latents.png",
        "heatmap_live_to_true.png",
        *(f"{name}.gif" for name in FILMS),
    }
    assert re.search(r"^best MMCS 0\.\d{3} at l1 (0\.01|0\.3), ratio [12]$", out.stdout, re.M)
    assert out.stdout.endswith(f"report: {path / 'report.html'}\n")
    assert "Traceback" not in out.stderr


def test_the_page_needs_no_other_file(finished):
    path, _ = finished
    page = (path / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r"(?:src|href)\s*=\s*[\"']?([^\"'>\s]+)", page)
    assert len(sources) == len(list((path / "figures").iterdir())) == 13
    assert all(re.match(r"data:image/(png|gif);base64,", source) for source in sources)
    assert sum(source.startswith("data:image/gif") for source in sources) == 4
    assert "url(" not in page
    assert "<link" not in page
    assert "did not finish" not in page
    assert "All films are of seed 3." in page


def test_a_page_made_again_is_the_same_to_the_byte(finished):
    path, _ = finished
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    shutil.rmtree(path / "figures")
    shutil.rmtree(path / "tables")
    (path / "report.html").unlink()
    assert report.write(path) == path / "report.html"
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before


def test_the_flags_of_a_run_describe_it_again(finished, parse):
    path, _ = finished
    parse(*TINY, f"--workdir={path}")
    expected = toy3d.config()
    parse(f"--flagfile={path / 'config.flags'}")
    assert toy3d.config() == expected
    assert command.flagfile(toy3d.FLAGS) == (path / "config.flags").read_text()
    assert toy3d.FLAGS.pca_draws == 3


# ---------------------------------------------------------------------------------------- films


@pytest.mark.parametrize("name", FILMS)
def test_a_film_repeats_for_ever_and_rests_on_its_last_frame(finished, name):
    path, _ = finished
    with Image.open(path / "figures" / f"{name}.gif") as film:
        assert film.n_frames == len(FRAMES)
        assert film.info["loop"] == 0
        frames, seconds = [], []
        for i in range(film.n_frames):
            film.seek(i)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
            seconds.append(film.info["duration"] / 1000)
    assert len({*seconds[:-1]}) == 1
    assert seconds[-1] > 5 * seconds[0] > 0
    # The lower part has no heading: what differs there is the dictionary.
    assert all((a[60:] != b[60:]).any() for a, b in pairwise(frames))


def test_films_show_the_snapshots_of_the_first_seed(finished, monkeypatch):
    path, _ = finished
    shown = []

    def film(*arguments):
        shown.append(arguments)
        return [np.zeros((2, 2, 3), np.uint8)]

    monkeypatch.setattr(toy3d_figures, "film", film)
    assert [*report.films(path)] == FILMS
    with np.load(path / "results.npz") as file:
        true, final = file["features"][0, 0], file["final/mmcs_true_to_dict"][0, 0, ..., 0, 0, 0, 0]
    cells = [(ratio, l1) for ratio in (1, 2) for l1 in ("0.01", "0.3")]
    for (ratio, l1), arguments in zip(cells, shown, strict=True):
        F, W_dec, alive, mmcs, steps, title = arguments
        kept = snapshots(path, ratio, l1)
        at = [step // 60 for step in FRAMES]
        np.testing.assert_array_equal(F, true)
        np.testing.assert_array_equal(steps, FRAMES)
        np.testing.assert_array_equal(W_dec, kept["W_dec"][at])
        np.testing.assert_array_equal(alive, kept["alive"][at])
        by_hand = [cosines(true, rows).max(1).mean() for rows in W_dec]
        np.testing.assert_allclose(mmcs, by_hand, atol=1e-6)
        assert mmcs[-1] == pytest.approx(final[ratio - 1, ["0.01", "0.3"].index(l1)], abs=1e-6)
        assert title == f"ratio {ratio}, L1 {l1}"
    assert not all(arguments[2].all() for arguments in shown), "no latent ever died"


def test_a_gif_has_the_frames_that_were_drawn(finished):
    path, _ = finished
    with np.load(path / "results.npz") as file:
        true = file["features"][0, 0]
    kept = snapshots(path, 2, "0.3")
    at = [step // 60 for step in FRAMES]
    mmcs = np.array([cosines(true, rows).max(1).mean() for rows in kept["W_dec"][at]])
    steps = kept["steps"][at]
    frames = toy3d_figures.film(
        true, kept["W_dec"][at], kept["alive"][at], mmcs, steps, "ratio 2, L1 0.3"
    )
    assert gif.encode(frames) == (path / "figures" / "film_ratio-2_l1-0.3.gif").read_bytes()


# ---------------------------------------------------------------------------------------- numbers


def test_pca_is_measured_on_fresh_features_for_each_draw(finished):
    path, _ = finished
    rows = [json.loads(line) for line in (path / "pca.jsonl").read_text().splitlines()]
    assert [row["seed"] for row in rows] == [0, 1, 2]
    for row in rows:
        x = baseline_fits.samples_of(SPEC, row["seed"], 8192, 256).astype(float)
        _, _, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
        signs = np.sign(axes[np.arange(3), np.abs(axes).argmax(1)])
        F = np.asarray(baseline_fits.truth_of(SPEC, row["seed"]).F, float)
        assert row["mmcs"] == pytest.approx((F @ (axes * signs[:, None]).T).max(1).mean(), abs=1e-5)
    assert len({row["mmcs"] for row in rows}) == 3


def test_the_table_of_recovery_by_hand(finished):
    path, _ = finished
    pca = [json.loads(line)["mmcs"] for line in (path / "pca.jsonl").read_text().splitlines()]
    with np.load(path / "results.npz") as file:
        true, final = file["features"][0], file["final/mmcs_true_to_dict"][0, ..., 0, 0, 0, 0]
    rows = rows_of(path / "tables" / "recovery.csv")
    means = final.mean(0)
    ratio, l1 = np.unravel_index(means.argmax(), means.shape)
    expected = [pca]
    for width in (1, 2):
        start = [snapshots(path, width, "0.01", seed)["W_dec"][0] for seed in (3, 4)]
        expected.append(
            [cosines(F, rows).max(1).mean() for F, rows in zip(true, start, strict=True)]
        )
    expected.append(final[:, ratio, l1])
    assert len(rows) == 4
    for row, values in zip(rows, expected, strict=True):
        assert float(row["MMCS"]) == pytest.approx(np.mean(values), abs=1e-6)
        assert float(row["sd"]) == pytest.approx(np.std(values, ddof=1), abs=1e-6)
        assert int(row["draws"]) == len(values)
    assert rows[0]["dictionary"] == "PCA (3 directions)"
    assert rows[-1]["dictionary"] == f"best SAEs (L1 {(0.01, 0.3)[l1]:g}, ratio {ratio + 1})"


def test_how_close_live_latents_come_by_hand(finished, tmp_path, monkeypatch, no_films):
    path = copy(finished[0], tmp_path / "run")
    drawn, draw = {}, sweep_plots.heatmaps

    def heatmaps(panels, ratios, l1, metric, *rest, **named):
        drawn[metric] = panels
        return draw(panels, ratios, l1, metric, *rest, **named)

    monkeypatch.setattr(sweep_plots, "heatmaps", heatmaps)
    report.write(path)
    with np.load(path / "results.npz") as file:
        true = file["features"][0]
    ((mean, spread),) = drawn["live_to_true"].values()
    for i, ratio in enumerate((1, 2)):
        for j, l1 in enumerate(("0.01", "0.3")):
            values = []
            for F, seed in zip(true, (3, 4), strict=True):
                kept = snapshots(path, ratio, l1, seed)
                live = kept["W_dec"][-1][kept["alive"][-1]]
                values.append(cosines(live, F).max(1).mean())
            assert mean[i, j] == pytest.approx(np.mean(values), abs=1e-6)
            assert spread[i, j] == pytest.approx(np.std(values, ddof=1), abs=1e-6)


# ---------------------------------------------------------------------------------------- mishaps


def test_an_interrupted_run_has_a_page_without_films(finished, tmp_path):
    run = json.loads((finished[0] / "run.json").read_text()) | {"finished": False}
    (tmp_path / "run.json").write_text(json.dumps(run))
    lines = (finished[0] / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines[: 2 * 8 + 3]))
    page = report.write(tmp_path).read_text(encoding="utf-8")
    assert "This run did not finish: it was measured up to step 240 of 480" in page
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {
        "features.png",
        "samples.png",
        "frequencies.png",
        "heatmap_mse.png",
        "heatmap_mmcs_true_to_dict.png",
        "heatmap_dead_latents.png",
    }
    assert "How the dictionaries moved" not in page
    assert "PCA and chance" not in page


@pytest.mark.filterwarnings("error")
def test_frozen_cells_are_left_out_of_the_best(finished, tmp_path, no_films):
    path = copy(finished[0], tmp_path / "some", froze=np.s_[:, :, 1])
    shutil.copy(finished[0] / "pca.jsonl", path / "pca.jsonl")
    page = report.write(path).read_text(encoding="utf-8")
    assert page.count("was not finite at step 7") == 4
    assert rows_of(path / "tables" / "recovery.csv")[-1]["dictionary"].endswith("ratio 1)")


@pytest.mark.filterwarnings("error")
def test_a_run_in_which_every_cell_froze_still_has_a_page(
    finished, tmp_path, monkeypatch, no_films, parse, capsys
):
    path = tmp_path / "run"

    def train(*arguments, workdir, **named):
        return load(copy(finished[0], Path(workdir), froze=np.s_[:, :]))

    monkeypatch.setattr(toy3d.command, "train", train)
    toy3d.main(parse(*TINY, f"--workdir={path}"))
    page = (path / "report.html").read_text(encoding="utf-8")
    assert page.count("was not finite at step 7") == 8
    rows = rows_of(path / "tables" / "recovery.csv")
    assert not any("best" in row["dictionary"] for row in rows)
    assert "every cell was frozen as not finite\nreport: " in capsys.readouterr().out


def test_ctrl_c_while_the_page_is_drawn_says_where_the_results_are(
    finished, tmp_path, monkeypatch, parse
):
    path = tmp_path / "run"

    def write(workdir):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        toy3d.command, "train", lambda *_, workdir, **__: load(copy(finished[0], Path(workdir)))
    )
    monkeypatch.setattr(study.report, "write", write)
    with pytest.raises(SystemExit, match=f"^interrupted; what was measured so far is in {path}"):
        toy3d.main(parse(*TINY, f"--workdir={path}"))
