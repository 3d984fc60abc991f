"""What an interruption leaves in a workdir, and copies of a run."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.runs import N_CELLS, assert_same_numbers, contents, lines_of

from saejax import load, save
from saejax.results.workdir import RunLog, read_run, write_run


def copy_run(source, target, metrics):
    """A workdir with the same run and other metrics."""
    target.mkdir()
    (target / "run.json").write_bytes((source / "run.json").read_bytes())
    (target / "metrics.jsonl").write_text(metrics)
    return target


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


# -------------------------------------------------------------------------------------- interrupted


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
