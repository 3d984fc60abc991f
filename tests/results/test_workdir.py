"""What a run leaves in its workdir, how it is read back, and what an interruption leaves."""

import csv
import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest

from saejax import Params, SAEConfig, Settings, Sweep, Synthetic, load, save, train
from saejax.core.files import append_rows, read_rows, write_arrays, write_bytes, write_text
from saejax.results.axes import ABSENT, AXES, final_values
from saejax.results.result import Result
from saejax.results.workdir import RunLog, cell_name, discard, read_run, write_run

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
SPEC = Synthetic("uncorrelated", d_in=6, n_features=8, avg_active=2.0)
SWEEP = Sweep(l1=(0.01, 0.1), ratio=(0.5, 1), seeds=(0, 4))
SETTINGS = Settings(
    steps=9,
    batch_size=8,
    eval_every=3,
    eval_batches=1,
    track_threshold=0.6,
    sae=SAEConfig(use_b_dec=True),
)
N_CELLS, N_EVAL = 8, 3
FLAGS = "--workdir=x\n--steps=9\n"
STUDY = {"name": "grid", "own_purity": 0.9, "table": {"labels": ["a", "b"], "x": [[1.5], [2.0]]}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished")
    return path, train(
        SWEEP, SPEC, SETTINGS, workdir=path, progress=False, flags=FLAGS, study=STUDY
    )


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The same run, ended by Ctrl-C once its second evaluation is written."""
    path = tmp_path_factory.mktemp("interrupted")
    write, calls = RunLog.evaluation, []

    def evaluation(self, *args):
        write(self, *args)
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "evaluation", evaluation)
        with pytest.raises(KeyboardInterrupt):
            train(SWEEP, SPEC, SETTINGS, workdir=path, progress=False, flags=FLAGS)
    return path


def lines_of(path):
    def refuse(text):
        raise ValueError(f"{text} is not JSON")

    return [
        json.loads(line, parse_constant=refuse)
        for line in (path / "metrics.jsonl").read_text().splitlines()
    ]


def copy_run(source, target, metrics):
    """A workdir with the same run and other metrics."""
    target.mkdir()
    (target / "run.json").write_bytes((source / "run.json").read_bytes())
    (target / "metrics.jsonl").write_text(metrics)
    return target


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


def assert_same_numbers(got, want):
    assert got.keys() == want.keys()
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-6, err_msg=name)


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


# ---------------------------------------------------------------------------------------- refusal


def contents(path):
    return {p.name: p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_used_workdir_is_refused_and_left_alone(finished, tmp_path):
    path, _ = finished
    before = contents(path)
    with pytest.raises(
        ValueError, match=r"workdir: got .* of other settings: .*steps: got 'nothing'"
    ):
        RunLog(path, {"settings": {}}, None)
    assert contents(path) == before
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds other files already"):
        RunLog(tmp_path, {}, None)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_a_file_as_workdir_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "thesis.txt"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"workdir: got .* a file"):
        RunLog(path, {}, None)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_an_empty_folder_and_a_deep_new_one_are_taken(tmp_path):
    RunLog(tmp_path, {}, None).close()
    with RunLog(tmp_path / "a" / "b", {"x": 1}, None) as log:
        deep = log.path
    assert {p.name for p in deep.iterdir()} == {"run.json", "metrics.jsonl"}
    assert json.loads((deep / "run.json").read_text()) == {"finished": False, "x": 1}


# ----------------------------------------------------------------------------------------
# interrupted


def test_an_interrupted_run_keeps_the_evaluations_so_far(finished, interrupted):
    whole = lines_of(finished[0])
    assert lines_of(interrupted) == whole[: 2 * N_CELLS]
    assert json.loads((interrupted / "run.json").read_text())["finished"] is False
    assert {p.name for p in interrupted.iterdir()} == {"run.json", "config.flags", "metrics.jsonl"}


def test_an_interrupted_run_can_be_loaded(finished, interrupted):
    _, whole = finished
    part = load(interrupted)
    np.testing.assert_array_equal(part.steps, [3, 6])
    assert not part.run["finished"]
    for name, values in part.history.items():
        np.testing.assert_allclose(values, whole.history[name][:2], rtol=1e-6, err_msg=name)
    for name in ("learned", "unlearned"):
        np.testing.assert_array_equal(part.final[name], whole.history[name][:2].sum(0))
    np.testing.assert_allclose(part.final["mse"], whole.history["mse"][1], rtol=1e-6)
    assert "mmcs_to_next_larger" not in part.final
    assert (part.best_index, part.features) == (None, None)
    assert len(part.table()) == N_CELLS
    assert part.best("mse", seed=0)["mse"] == np.nanmin(part.final["mse"][:, 0])
    with pytest.raises(FileNotFoundError, match="dictionaries are written when a run ends"):
        part.dictionary(seed=0, ratio=1, l1=0.1)


@pytest.mark.parametrize("cut", [1, 30, 5000])
def test_a_cut_last_line_costs_its_evaluation_only(interrupted, tmp_path, cut):
    text = (interrupted / "metrics.jsonl").read_text()
    second = len("".join(text.splitlines(keepends=True)[:N_CELLS]))
    run = copy_run(interrupted, tmp_path / "run", text[: max(len(text) - 1 - cut, second)])
    part = load(run)
    np.testing.assert_array_equal(part.steps, [3])
    np.testing.assert_array_equal(part.history["mse"], load(interrupted).history["mse"][:1])


@pytest.mark.parametrize("kept", [0, 40, 1000])
def test_a_run_that_ended_before_its_first_evaluation_is_a_clear_error(interrupted, tmp_path, kept):
    text = (interrupted / "metrics.jsonl").read_text()[:kept]
    run = copy_run(interrupted, tmp_path / "run", text)
    with pytest.raises(ValueError, match="ended before its first evaluation"):
        load(run)


# ---------------------------------------------------------------------------------------- copies


def broken_at(at, load_params):
    """Weights of the cells, up to one at which the disk is full."""
    calls = []

    def load(index):
        calls.append(index)
        if len(calls) > at:
            raise OSError("disk full")
        return load_params(index)

    return load


def test_a_run_is_marked_as_its_writer_says_whatever_the_run_said(tmp_path):
    for finished in (True, False):
        write_run(tmp_path, {"d_in": 3, "finished": not finished}, finished)
        assert read_run(tmp_path) == {"d_in": 3, "finished": finished}


def test_a_copy_of_a_run_that_ended_has_ended(finished, tmp_path):
    path, result = finished
    for i, own in enumerate((result, load(path))):
        again = load(save(own, tmp_path / str(i)))
        assert again.run["finished"] is True
        assert_same_numbers(again.final, result.final)


@pytest.mark.parametrize("was_there", [False, True])
@pytest.mark.parametrize("kind", ["absent", "loaded"])
def test_a_copy_that_fails_leaves_nothing(finished, was_there, kind, tmp_path):
    path, result = finished
    result = load(path) if kind == "loaded" else result
    if was_there:
        (tmp_path / "copy").mkdir()
    with pytest.raises(OSError, match="disk full"):
        save(replace(result, load_params=broken_at(3, result.load_params)), tmp_path / "copy")
    assert [p.name for p in tmp_path.rglob("*")] == ["copy"] * was_there


def test_while_a_copy_is_written_it_is_no_run_that_ended(finished, tmp_path):
    result, seen = load(finished[0]), []

    def look(index):
        seen.append(read_run(tmp_path / "copy")["finished"])
        return result.load_params(index)

    save(replace(result, load_params=look), tmp_path / "copy")
    assert seen == [False] * N_CELLS


def test_an_interrupted_run_without_dictionaries_is_not_copied(finished, interrupted, tmp_path):
    part, first = load(interrupted), load(finished[0])

    def some(index):
        return (first if index == part.cells()[0] else part).load_params(index)

    mixed = replace(part, load_params=some)
    for result in (part, mixed):
        with pytest.raises(
            ValueError,
            match="result: got one of an interrupted run, which has no dictionaries yet, all",
        ):
            save(result, tmp_path / "copy")
    assert not any(tmp_path.iterdir())


def test_the_copy_of_a_run_killed_before_it_was_marked_is_not_marked_either(finished, tmp_path):
    result = load(finished[0])
    again = load(save(replace(result, run=result.run | {"finished": False}), tmp_path / "copy"))
    assert again.run["finished"] is False
    assert again.dictionary(seed=4, ratio=1, l1=0.1).W_dec.shape == (8, 6)


def test_a_copy_onto_the_same_run_is_refused(finished, tmp_path):
    path, result = finished
    save(result, tmp_path / "copy")
    before = contents(tmp_path)
    for target in (path, tmp_path / "copy"):
        with pytest.raises(FileExistsError, match="holds a run already"):
            save(result, target)
    assert contents(tmp_path) == before


# ---------------------------------------------------------------------------------------- studies


@pytest.mark.parametrize(
    "run", [{}, {"coords": {"l1": [0.1], "d_sae": [4], "seed": [0]}}], ids=["interrupted", "ended"]
)
def test_the_workdir_of_a_study_in_stages_says_where_its_sweep_lies(finished, run, tmp_path):
    path, result = finished
    study = tmp_path / "study"
    study.mkdir()
    write_run(study, {"study": {"name": "gpt2"}, **run}, bool(run))
    say = re.escape(
        f"workdir: got {str(study)!r}, which holds no sweep but the study gpt2; allowed: "
    )
    with pytest.raises(ValueError, match=f"{say}the workdir of a sweep$"):
        load(study)
    save(result, study / "dictionaries")
    at = re.escape(repr(str(study / "dictionaries")))
    with pytest.raises(ValueError, match=rf"{say}the folder of its dictionaries \({at}\)$"):
        load(study)
    (study / "config.flags").write_text(f"--steps=9\n--dictionaries={path}\n")
    at = re.escape(repr(str(path)))
    with pytest.raises(ValueError, match=rf"{say}the folder of its dictionaries \({at}\)$"):
        load(study)


# ---------------------------------------------------------------------------------------- names


def test_names_of_dictionaries_leave_out_rates_that_are_not_swept():
    coords = {
        "dataset": ("a b",),
        "seed": (7,),
        "ratio": (0.25,),
        "l1": (0.1778279,),
        "lr": (1e-3, 0.1),
        "resample": ("on", "off"),
        "architecture": ("relu",),
        "k": (0,),
    }
    name = "a b_seed-7_ratio-0.25_l1-0.177828"
    assert cell_name(coords, (0, 0, 0, 0, 1, 0, 0, 0)) == f"{name}_lr-0.1_resample-on"
    assert cell_name(coords | {"lr": (0.1,)}, (0, 0, 0, 0, 0, 1, 0, 0)) == f"{name}_resample-off"
    assert cell_name(coords | {"lr": (0.1,), "resample": ("on",)}, (0,) * 8) == name


def test_weights_without_b_dec_come_back_without(finished, tmp_path):
    _, result = finished
    rng = np.random.default_rng(0)
    bare = Params(*(rng.normal(size=s).astype(np.float32) for s in ((6, 4), (4,), (4, 6))))
    log = RunLog(tmp_path, result.run, None)
    log.finish(replace(result, load_params=lambda index: bare))
    got = load(tmp_path).dictionary(seed=4, ratio=0.5, l1=0.1)
    assert got.b_dec is None
    np.testing.assert_array_equal(got.W_dec, bare.W_dec)
    assert not (tmp_path / "config.flags").exists()


# ---------------------------------------------------------------------------------------- rows


def test_rows_without_a_finite_value_have_null_there(tmp_path):
    path = tmp_path / "rows.jsonl"
    nan, inf = float("nan"), float("inf")
    first = {"a": nan, "b": inf, "c": -inf, "d": np.float64("nan"), "e": 1.5, "f": "NaN", "g": True}
    append_rows(path, [first])
    append_rows(path, iter([{"a": 1}, {"a": np.float64(-inf)}]))
    expected = [dict.fromkeys("abcd") | {"e": 1.5, "f": "NaN", "g": True}, {"a": 1}, {"a": None}]
    assert path.read_text().splitlines() == [json.dumps(row) for row in expected]
    assert read_rows(path) == expected


def test_a_line_cut_short_ends_the_reading(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"name": "\u2028 \x85 \u00e9", "x": 1.0}, {"name": "b\nc", "x": None}, {"name": "d"}]
    append_rows(path, rows)
    assert read_rows(path) == rows
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for cut in range(1, len(lines[1]) - 1):
        path.write_text(lines[0] + lines[1][:cut], encoding="utf-8")
        assert read_rows(path) == rows[:1]
        path.write_text(lines[0] + lines[1][:cut] + "\n" + lines[2], encoding="utf-8")
        assert read_rows(path) == rows[:1]
    path.write_text("".join(lines).removesuffix("\n"), encoding="utf-8")
    assert read_rows(path) == rows
    path.write_text("")
    assert read_rows(path) == []


# ---------------------------------------------------------------------------------------- whole
# files


def test_arrays_come_back_as_they_were(tmp_path):
    arrays = {"a/b, c": np.arange(6.0).reshape(2, 3), "d": np.array([True, False])}
    write_arrays(tmp_path / "x.npz", arrays)
    assert contents(tmp_path).keys() == {"x.npz"}
    with np.load(tmp_path / "x.npz") as file:
        assert set(file.files) == set(arrays)
        for name, values in arrays.items():
            np.testing.assert_array_equal(file[name], values)
            assert file[name].dtype == values.dtype


@pytest.mark.parametrize("before", [None, b"from before"])
@pytest.mark.parametrize(
    "error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "Ctrl-C"]
)
@pytest.mark.parametrize(
    ("patched", "write"),
    [
        ("numpy.savez_compressed", lambda path: write_arrays(path, {"a": np.zeros(3)})),
        ("pathlib.Path.write_text", lambda path: write_text(path, "a long text")),
        ("pathlib.Path.write_bytes", lambda path: write_bytes(path, b"a long text")),
    ],
    ids=["arrays", "text", "bytes"],
)
def test_a_file_half_written_never_has_the_final_name(
    tmp_path, monkeypatch, patched, write, error, before
):
    path = tmp_path / "x.npz"
    if before:
        path.write_bytes(before)
    old = {path.name: before} if before else {}
    seen = []

    def half(part, *_, **__):
        with open(part, "wb") as file:
            file.write(b"a lo")
        seen.append(contents(tmp_path))
        raise error

    monkeypatch.setattr(patched, half)
    with pytest.raises(type(error)):
        write(path)
    (during,) = seen
    assert {k: v for k, v in during.items() if k == path.name} == old
    assert b"a lo" in during.values()
    assert contents(tmp_path) == old


@pytest.mark.parametrize("was_there", [False, True])
@pytest.mark.parametrize("foreign", [False, True])
def test_discard_removes_the_files_of_a_run_and_the_folder_it_made(tmp_path, was_there, foreign):
    path = tmp_path / "run"
    path.mkdir()
    for name in ("run.json", "config.flags", "fits.jsonl", *(["metrics.jsonl"] if foreign else [])):
        (path / name).write_text(name)
    discard(path, "fits.jsonl", was_there)
    assert path.exists() == (was_there or foreign)
    if path.exists():
        assert contents(path) == ({"metrics.jsonl": b"metrics.jsonl"} if foreign else {})


def test_a_workdir_whose_first_files_cannot_be_written_is_as_before(tmp_path, monkeypatch):
    def refuse(path, text):
        if path.name == "config.flags":
            raise KeyboardInterrupt
        path.write_text(text)

    monkeypatch.setattr("saejax.results.workdir.write_text", refuse)
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        with pytest.raises(KeyboardInterrupt):
            RunLog(tmp_path / name, {}, FLAGS)
    assert [p.name for p in tmp_path.rglob("*")] == ["empty"]
