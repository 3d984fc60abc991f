"""Files of a workdir are whole or absent."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.runs import FLAGS, contents

from saejax import Params, load
from saejax.core.files import append_rows, read_rows, write_arrays, write_bytes, write_text
from saejax.results.workdir import RunLog, cell_name, discard

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
