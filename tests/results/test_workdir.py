"""What a run leaves in its workdir, and how it is read back."""

import csv
import json
from dataclasses import asdict

import numpy as np
import pytest
from helpers.runs import FLAGS, N_CELLS, N_EVAL, SETTINGS, STUDY, assert_same_numbers, lines_of

from saejax import Params, load
from saejax.core.files import append_rows, write_arrays
from saejax.results.axes import ABSENT, AXES, final_values
from saejax.results.result import Result
from saejax.results.workdir import RunLog

COLUMNS = (
    "dataset",
    "ratio",
    "l1",
    "seed",
    "d_sae",
    "mmcs_true_to_dict",
    "mmcs_dict_to_true",
    "mse",
    "l1_loss",
    "l0",
    "fvu",
    "dead_latents",
    "mmcs_to_next_larger",
    "learned",
    "unlearned",
)


# ---------------------------------------------------------------------------------------- contents


def test_a_finished_run_leaves_these_files(finished):
    path, _ = finished
    files = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
    cells = {
        f"dictionaries/uncorrelated_seed-{s}_ratio-{r}_l1-{k}.npz"
        for s in (0, 4)
        for r in ("0.5", "1")
        for k in ("0.01", "0.1")
    }
    top = {"run.json", "config.flags", "metrics.jsonl", "results.csv", "results.npz"}
    assert files == top | cells
    assert (path / "config.flags").read_text() == FLAGS


def test_run_json_describes_the_run(finished):
    path, result = finished
    run = json.loads((path / "run.json").read_text())
    assert run["finished"] is True
    assert {k: run[k] for k in result.run} == json.loads(json.dumps(result.run))
    assert run["coords"]["l1"] == [0.01, 0.1]
    assert (run["d_sae"], run["d_in"], run["n_features"]) == ([4, 8], 6, 8)
    assert run["settings"]["sae"] == asdict(SETTINGS.sae)
    assert run["data"]["uncorrelated"]["avg_active"] == 2.0
    assert run["flops_per_step"] == 10 * 8 * 6 * (4 + 8) * 2 * 2
    assert run["compile_seconds"] > 0
    assert {"saejax", "jax", "numpy"} <= set(run["versions"])


def test_the_study_is_written_down_and_comes_back(finished, interrupted):
    path, result = finished
    assert json.loads((path / "run.json").read_text())["study"] == STUDY
    assert load(path).run["study"] == result.run["study"] == STUDY
    assert "study" not in load(interrupted).run


def test_results_csv_has_these_columns_first_and_a_row_a_cell(finished):
    path, result = finished
    with (path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0])[: len(COLUMNS)] == COLUMNS
    assert len(rows) == N_CELLS
    order = [(r["seed"], r["ratio"], r["l1"]) for r in rows]
    assert order == [(s, r, k) for s in "04" for r in ("0.5", "1") for k in ("0.01", "0.1")]
    for row, index in zip(rows, np.ndindex(1, 2, 2, 2, 1, 1, 1, 1), strict=True):
        assert row["d_sae"] == str(result.d_sae[index[2]])
        for name in COLUMNS[5:]:
            value = result.final[name][index]
            assert (
                row[name] == ""
                if np.isnan(value)
                else float(row[name]) == pytest.approx(value, 1e-6)
            )
    assert [r["mmcs_to_next_larger"] == "" for r in rows] == [r["ratio"] == "1" for r in rows]


def test_metrics_jsonl_has_a_line_an_evaluation_and_cell(finished):
    path, result = finished
    rows = lines_of(path)
    assert len(rows) == N_EVAL * N_CELLS
    cells = list(np.ndindex(1, 2, 2, 2, 1, 1, 1, 1))
    for i, row in enumerate(rows):
        t, index = i // N_CELLS, cells[i % N_CELLS]
        assert row["step"] == 3 * (t + 1)
        assert [row[axis] for axis in AXES] == [
            result.coords[axis][k] for axis, k in zip(AXES, index, strict=True)
        ]
        assert row["d_sae"] == result.d_sae[index[2]]
        for name, values in result.history.items():
            value = values[t][index]
            assert row[name] is None if np.isnan(value) else row[name] == pytest.approx(value, 1e-6)
    assert any(row["learned_change"] is None for row in rows)


# ---------------------------------------------------------------------------------------- load


def test_load_gives_the_result_back(finished):
    path, result = finished
    again = load(path)
    assert (again.coords, again.d_sae) == (result.coords, result.d_sae)
    assert {k: v for k, v in again.run.items() if k in result.run} == json.loads(
        json.dumps(result.run)
    )
    np.testing.assert_array_equal(again.steps, result.steps)
    for mine, theirs in ((again.history, result.history), (again.final, result.final)):
        assert mine.keys() == theirs.keys()
        for name, values in theirs.items():
            np.testing.assert_array_equal(mine[name], values, err_msg=name)
    for name in ("best_index", "best_cosine", "features"):
        np.testing.assert_array_equal(getattr(again, name), getattr(result, name))
    for seed in (0, 4):
        for ratio in (0.5, 1):
            for l1 in (0.01, 0.1):
                pair = (r.dictionary(seed=seed, ratio=ratio, l1=l1) for r in (again, result))
                for mine, theirs in zip(*(p[:4] for p in pair), strict=True):
                    assert mine.dtype == np.float32
                    np.testing.assert_array_equal(mine, theirs)
    assert again.table().to_csv() == result.table().to_csv()


def test_load_of_no_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"workdir: got .*no run"):
        load(tmp_path)


# ---------------------------------------------------------------------------------------- holes

MIXED = {
    "dataset": ("data",),
    "seed": (0, 4),
    "ratio": (0.5, 1.0),
    "l1": (0.1, 0.0),
    "lr": (1e-3,),
    "resample": ("off",),
    "architecture": ("relu", "topk"),
    "k": (0, 2),
}


@pytest.fixture(scope="module")
def holes():
    """A result of ReLUs at l1 0.1 and TopKs at k 2: half of the combinations are no cells."""
    rng = np.random.default_rng(0)
    shape = (2, *(len(v) for v in MIXED.values()))
    there = np.zeros(shape, bool)
    there[:, :, :, :, 0, :, :, 0, 0] = there[:, :, :, :, 1, :, :, 1, 1] = True
    history = {
        name: np.where(there, rng.uniform(size=shape), np.nan).astype(np.float32)
        for name in ("mse", "l0", "learned", "unlearned")
    }
    history["frozen_at"] = np.where(there, -1, ABSENT)
    history["frozen_at"][1, 0, 0, 0, 1, 0, 0, 1, 1] = 7
    run = {
        "coords": {name: list(values) for name, values in MIXED.items()},
        "d_sae": [4, 8],
        "n_cells": 8,
        "settings": {},
    }

    def params(index):
        weights = [rng.normal(size=s).astype(np.float32) for s in ((6, 4), (4,), (4, 6))]
        threshold = np.float32(index[1]) if MIXED["architecture"][index[6]] == "topk" else None
        return Params(*weights, threshold=threshold)  # pyright: ignore

    return Result(
        coords=MIXED,
        d_sae=(4, 8),
        run=run,
        steps=np.array([3, 6]),
        history=history,
        final=final_values(history),
        best_index=np.where(there[..., None], 1, [-1] * 5),
        best_cosine=np.where(there[..., None], 0.5, [np.nan] * 5),
        features=None,
        load_params=params,
    )


def written(path, result, finish):
    with RunLog(path, result.run, None) as log:
        for i, step in enumerate(result.steps):
            log.evaluation(
                int(step), result.coords, result.d_sae, {n: a[i] for n, a in result.history.items()}
            )
        if finish:
            log.finish(result)
    return load(path)


def test_a_sweep_with_holes_comes_back_with_them(holes, tmp_path):
    again = written(tmp_path, holes, finish=True)
    assert (again.coords, again.cells()) == (holes.coords, holes.cells())
    assert_same_numbers(again.history, holes.history)
    assert_same_numbers(again.final, holes.final)
    np.testing.assert_array_equal(again.best_index, holes.best_index)
    np.testing.assert_array_equal(again.best_cosine, holes.best_cosine)
    assert again.table().to_csv() == holes.table().to_csv()
    assert {p.name for p in (tmp_path / "dictionaries").iterdir()} == {
        f"data_seed-{s}_ratio-{r}_{own}.npz"
        for s in (0, 4)
        for r in ("0.5", "1")
        for own in ("l1-0.1_architecture-relu_k-0", "l1-0_architecture-topk_k-2")
    }
    relu, topk = (again.dictionary(seed=4, ratio=1, architecture=a) for a in ("relu", "topk"))
    assert (relu.threshold, topk.threshold) == (None, 1)
    with pytest.raises(ValueError, match="no cell has all of these"):
        again.dictionary(seed=4, ratio=1, architecture="topk", l1=0.1)


def test_an_interrupted_sweep_with_holes_can_be_loaded(holes, tmp_path):
    part = written(tmp_path, holes, finish=False)
    rows = lines_of(tmp_path)
    assert len(rows) == 2 * 8
    assert {(r["architecture"], r["l1"], r["k"]) for r in rows} == {
        ("relu", 0.1, 0),
        ("topk", 0.0, 2),
    }
    np.testing.assert_array_equal(part.steps, [3, 6])
    assert_same_numbers(part.history, holes.history)
    assert part.cells() == holes.cells()
    assert len(part.table()) == 8
    text = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(text[: len(text) - 30])
    first = load(tmp_path)
    np.testing.assert_array_equal(first.steps, [3])
    assert_same_numbers(first.history, {name: a[:1] for name, a in holes.history.items()})


# ------------------------------------------------------------------- runs of before these axes


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_of_before_there_were_architectures_is_one_of_relus(
    finished, interrupted, ended, tmp_path
):
    new = ("architecture", "k")
    path = finished[0] if ended else interrupted
    run = json.loads((path / "run.json").read_text())
    for name in ("architectures", "metrics", "n_cells"):
        del run[name]
    for name in new:
        del run["coords"][name]
    (tmp_path / "run.json").write_text(json.dumps(run))
    rows = [{k: v for k, v in row.items() if k not in new} for row in lines_of(path)]
    append_rows(tmp_path / "metrics.jsonl", rows)
    if ended:
        with np.load(path / "results.npz") as file:
            arrays = dict(file)
        for name, values in arrays.items():
            if name not in ("steps", "features"):
                at = 6 if name.startswith("final/") else 7
                assert values.shape[at : at + 2] == (1, 1)
                arrays[name] = values.reshape(*values.shape[:at], *values.shape[at + 2 :])
        write_arrays(tmp_path / "results.npz", arrays)
        (tmp_path / "dictionaries").symlink_to(path / "dictionaries")
    old, want = load(tmp_path), load(path)
    assert old.coords == want.coords
    assert (old.coords["architecture"], old.coords["k"]) == (("relu",), (0,))
    assert_same_numbers(old.history, want.history)
    assert_same_numbers(old.final, want.final)
    assert old.table().to_csv() == want.table().to_csv()
    if ended:
        np.testing.assert_array_equal(old.best_index, want.best_index)
        got, own = (r.dictionary(seed=4, ratio=1, l1=0.1) for r in (old, want))
        np.testing.assert_array_equal(got.W_dec, own.W_dec)
        assert old.sae(seed=4, ratio=1, l1=0.1).architecture == "relu"
