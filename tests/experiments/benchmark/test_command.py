"""The benchmark: what its rows and pictures say, its command, and what is refused."""

import csv
import json
from importlib.util import find_spec

import pytest
from helpers import commands

from saejax.experiments.benchmark import __main__ as benchmark
from saejax.experiments.benchmark import compare as benchmark_compare
from saejax.experiments.benchmark import goals as benchmark_goals
from saejax.experiments.benchmark import ours, pictures, turns
from saejax.experiments.benchmark.problem import Shape, make_problem

TINY = Shape(d_in=6, d_sae=10, batch=16, cells=3)
STEPS = 12
GROWTH = [
    "--shapes=",
    "--precisions=highest,bf16",
    "--growth=4x8x16x2",
    "--growth_cells=1,3",
    "--growth_widths=8,12",
    "--growth_seeds=1,4",
]


def installed(*peers):
    """The peers whose packages are here, each skipped with a reason where they are not."""
    return [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                any(
                    find_spec(package) is None for package in benchmark_compare.PEERS[name].packages
                ),
                reason=f"needs {', '.join(benchmark_compare.PEERS[name].packages.values())}",
            ),
        )
        for name in peers
    ]


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def problem():
    return make_problem(TINY, STEPS)


@pytest.fixture
def parse_flags():
    with commands.parsing(benchmark) as parse_afresh:
        yield parse_afresh


# ------------------------------------------------------------------------------------------ rows


def test_a_row_counts_useful_work_for_all_cells_and_seeds(monkeypatch):
    shape = Shape(4, 8, 16, 3)
    monkeypatch.setattr(
        ours,
        "take_turns",
        lambda runs, n: {
            "train": turns.Timed(9.0, [2.0, 4.0, 8.0], [None] * 3),
            "product": turns.Timed(1.0, [0.0] * 3, [1e5, 2e5, 1e5]),
        },
    )
    row = ours.measure(shape, "highest", seeds=2, seconds=1e-9, turns=3, size=8)
    assert row["steps"] == 4
    assert (row["seconds"], row["fastest"], row["slowest"]) == (1.0, 0.5, 2.0)
    assert row["seconds_per_cell"] == pytest.approx(1 / 6)
    flops = 10 * 16 * 4 * 8 * 6
    assert row["gflops"] == pytest.approx(flops / 1e9)
    shares = sorted([flops / 0.5 / 1e5, flops / 1.0 / 2e5, flops / 2.0 / 1e5])
    assert [row[k] for k in ("lowest", "share", "highest")] == pytest.approx(shares)
    assert (row["product_gflops"], row["first_seconds"]) == (1e-4, 9.0)


def test_methods_are_compared_turn_by_turn_and_cell_by_cell(monkeypatch):
    def run(problem, factor=1.0):
        changed = problem.weights._replace(W_enc=factor * problem.weights.W_enc)
        return lambda: lambda: [problem.weights] * 2 + [changed]

    monkeypatch.setattr(ours, "prepare", lambda problem, precision: run(problem))
    monkeypatch.setattr(benchmark_compare, "_prepared", lambda name, problem: run(problem, 2.0))
    seconds = {
        "saejax": [1.0, 2.0, 4.0],
        "saejax bf16": [1.0, 1.0, 1.0],
        "torch_loop": [3.0, 4.0, 20.0],
    }
    monkeypatch.setattr(
        benchmark_compare,
        "take_turns",
        lambda runs, n: {k: turns.Timed(5.0, seconds[k], [v()] * n) for k, v in runs.items()},
    )
    rows = benchmark_compare.side_by_side(
        TINY, ["torch_loop"], ["bf16", "highest"], seconds=1e-9, turns=3, rate=1e9
    )
    assert [row["method"] for row in rows] == ["saejax", "saejax bf16", "torch_loop"]
    assert [row["steps"] for row in rows] == [10] * 3
    assert [row["times_ours"] for row in rows] == [1.0, 0.5, 3.0]
    assert (rows[2]["lowest"], rows[2]["highest"], rows[2]["seconds"]) == (2.0, 5.0, 0.4)
    assert [row["apart"] for row in rows[:2]] == [0, 0]
    # One cell of three is another: `apart` sees it undiluted by the two that agree.
    gap = rows[2]["objective"] / rows[0]["objective"] - 1
    assert abs(rows[2]["apart"]) > abs(gap) > 0.01
    assert all(row["objective"] == pytest.approx(row["mse"] + row["l1_loss"]) for row in rows)


def test_goals_take_the_faster_trainer_of_saelens():
    sizes = {"d_sae": 512, "batch": 4096, "cells": 6}
    rows = [
        {"d_in": d_in, **sizes, "method": method, "times_ours": times}
        for d_in, times_of in ((32, (9, 7)), (128, (9, 9)), (256, (2, 3)))
        for method, times in zip(("saelens_toy", "saelens_multi"), times_of, strict=True)
    ]
    found = [
        (g["shape"], g["goal"], g["measured"], g["needed"], g["met"])
        for g in benchmark_goals.of_peers(rows, "cpu")
    ]
    assert found == [
        ("32x512x4096x6", "times as fast as saelens_multi", 7, 6.0, "yes"),
        ("256x512x4096x6", "times as fast as saelens_toy", 2, 2.2, "no"),
    ]
    assert [g["needed"] for g in benchmark_goals.of_peers(rows, "gpu")] == [20.0]


def test_goals_of_shares_are_those_of_float32_on_a_cpu():
    sizes = {"d_sae": 512, "batch": 64, "cells": 6, "seeds": 1}
    rows = [
        {"d_in": 256, **sizes, "precision": "highest", "share": 0.79, "seconds": 3.0},
        {"d_in": 256, **sizes, "precision": "bf16", "share": 1.2, "seconds": 2.0},
        {"d_in": 768, **sizes, "precision": "highest", "share": 0.1, "seconds": 1.0},
    ]
    found = [(g["measured"], g["needed"], g["met"]) for g in benchmark_goals.of_shares(rows, "cpu")]
    assert found == [(0.79, 0.8, "no"), (1.5, 1.4, "yes")]
    assert benchmark_goals.of_shares(rows, "gpu") == []


# -------------------------------------------------------------------------------------- pictures


def rows_beside(shapes, methods):
    """Rows of `side_by_side` in which every method takes as many times as long as its place
    says."""
    return [
        {
            **shape._asdict(),
            "method": method,
            "times_ours": 1.0 + i,
            "lowest": 0.5 + i,
            "highest": 2.0 + i,
            "objective": 1.0 + i / 10,
        }
        for shape in shapes
        for i, method in enumerate(methods)
    ]


def test_the_picture_beside_peers_has_every_method_of_every_task():
    shapes = [Shape(32, 64, 16, 1), Shape(256, 64, 16, 1)]
    fig = pictures.beside(rows_beside(shapes, ["saejax", "torch_loop", "saelens_toy"]), "cpu")
    left, right = fig.axes
    shown = {c.get_label(): [*c.lines[0].get_xdata()] for c in left.containers}
    assert shown == {"torch_loop": [2.0, 2.0], "saelens_toy": [3.0, 3.0]}
    drawn = [[*line.get_xdata()] for line in right.lines]
    assert [1.1, 1.1] in drawn
    assert [1.2, 1.2] in drawn
    hoped = [segment[0][0] for segment in left.collections[-1].get_segments()]
    assert hoped == [6.0, 2.2]


def test_fading_is_drawn_along_what_alone_differs():
    methods = ["saejax", "torch_loop"]
    shapes = [Shape(4, 8, 16, 1), Shape(4, 8, 16, 3), Shape(4, 32, 16, 3), Shape(5, 32, 16, 3)]
    fig = pictures.fading(rows_beside(shapes, methods))
    titles = [(ax.get_xlabel(), ax.get_title()) for ax in fig.axes if ax.get_title()]
    assert titles == [("d_sae", "d_in 4, batch 16, SAEs: 3"), ("SAEs", "d_in 4, d_sae 8, batch 16")]
    assert [*fig.axes[0].containers[0].lines[0].get_xdata()] == [8, 32]
    assert pictures.fading(rows_beside(shapes[-1:], methods)) is None


def test_shares_have_their_goals_and_extremes():
    rows = [
        {
            **Shape(d_in, 8, 16, 2)._asdict(),
            "precision": p,
            "share": 0.5,
            "lowest": 0.4,
            "highest": 0.7,
        }
        for d_in in (64, 100)
        for p in ("highest", "bf16")
    ]
    (ax,) = pictures.shares(rows).axes
    assert [c.get_label() for c in ax.containers] == ["float32", "bf16"]
    for end, segment in zip(
        (0.4, 0.7), ax.containers[0].lines[2][0].get_segments()[0], strict=True
    ):
        assert segment[0] == pytest.approx(end)
    hoped = [segment[0][0] for segment in ax.collections[-1].get_segments() if len(segment)]
    assert hoped == [0.6]
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "d_in 64, d_sae 8, batch 16, SAEs: 2",
        "d_in 100, d_sae 8, batch 16, SAEs: 2",
    ]


# --------------------------------------------------------------------------------- the command


def test_the_command_leaves_tables_and_pictures(parse_flags, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(turns, "PAUSE", 0.0)
    folder = tmp_path / "run"
    few = ("--shapes=4x8x16x2", "--precisions=bf16", "--turns=1", "--seconds=1e-6", "--size=8")
    benchmark.main(parse_flags(*few, f"--workdir={folder}"))
    files = {"config.flags", "machine.json", "shapes.csv", "shapes.png"}
    assert {p.name for p in folder.iterdir()} == files
    assert "jax" in json.loads((folder / "machine.json").read_text())["versions"]
    rows = rows_of(folder / "shapes.csv")
    assert [(row["d_in"], row["precision"]) for row in rows] == [("4", "bf16")]
    assert all(float(row["share"]) > 0 and row["steps"] == "4" for row in rows)
    assert (folder / "shapes.png").read_bytes().startswith(b"\x89PNG")
    assert f"tables and pictures: {folder}" in capsys.readouterr().out


def test_one_number_grows_at_a_time(parse_flags, tmp_path, monkeypatch):
    def row(shape, precision, *, seeds=1, **_):
        names = ("seconds", "fastest", "slowest", "seconds_per_cell")
        return {
            **shape._asdict(),
            "seeds": seeds,
            "precision": precision,
            **dict.fromkeys(names, 1.0),
            "share": 0.5,
        }

    monkeypatch.setattr(ours, "measure", row)
    folder = tmp_path / "run"
    benchmark.main(parse_flags(*GROWTH, f"--workdir={folder}"))
    grown = [
        tuple(
            r[name] for name in ("grows", "d_in", "d_sae", "batch", "cells", "seeds", "precision")
        )
        for r in rows_of(folder / "growth.csv")
    ]
    assert grown == [
        (what, "4", d_sae, "16", cells, seeds, precision)
        for what, d_sae, cells, seeds in (
            ("cells", "8", "1", "1"),
            ("cells", "8", "3", "1"),
            ("d_sae", "8", "2", "1"),
            ("d_sae", "12", "2", "1"),
            ("seeds", "8", "2", "1"),
            ("seeds", "8", "2", "4"),
        )
        for precision in ("highest", "bf16")
    ]
    assert (folder / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", installed("saelens_toy"))
def test_peers_stand_beside_this_library(name, parse_flags, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(turns, "PAUSE", 0.0)
    folder = tmp_path / "run"
    few = (
        "--shapes=",
        "--peer_shapes=4x8x16x2,4x12x16x2",
        "--turns=1",
        "--seconds=1e-6",
        "--size=16",
    )
    benchmark.main(parse_flags(*few, f"--workdir={folder}"))
    rows = rows_of(folder / "peers.csv")
    assert [row["method"] for row in rows] == ["saejax", *benchmark_compare.PEERS] * 2
    for row in rows:
        if row["method"].startswith("torch"):
            assert float(row["apart"]) < 1e-4
        assert float(row["objective"]) > 0
    pngs = {p.name for p in folder.glob("*.png")}
    assert pngs == {"peers.png", "fading.png"}
    notes = {row["method"]: row["note"] for row in rows_of(folder / "methods.csv")}
    assert notes["saelens_toy"] == benchmark_compare.PEERS["saelens_toy"].note
    assert [row["needed"] for row in rows_of(folder / "goals.csv")] == ["6", "6"]
    assert "clipped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shapes=32x32"], "shapes: got '32x32', allowed: d_in x d_sae x batch x cells"),
        (["--shapes=2x2x2x2,2x2x2x2"], "shapes: got '2x2x2x2,2x2x2x2', allowed: each shape once"),
        (["--shapes="], "shapes: got none, allowed: one at least"),
        (["--precisions=fp8"], "precisions: got 'fp8', allowed: each of"),
        (["--precisions=tf32"], "precisions: got 'tf32', which a CPU does not have"),
        (["--turns=0"], "turns: got 0, allowed: 1 or more"),
        (["--size=0"], "size: got 0, allowed: 1 or more"),
        (["--seconds=0"], "seconds: got 0.0, allowed: above 0"),
        (["--seconds=nan"], "seconds: got nan, allowed: above 0"),
        (["--growth=2x2"], "growth: got '2x2', allowed: "),
        (["--growth=2x2x2x2", "--growth_cells=4,1"], "growth_cells: got ['4', '1'], allowed: "),
        (
            ["--growth=2x2x2x2", "--growth_cells=9999"],
            "growth_cells: got '2x2x2x9999', allowed: up to",
        ),
        (["--growth=2x2x2x2", "--growth_seeds=0,1"], "growth_seeds: got ['0', '1'], allowed: "),
        (["--growth=2x2x2x2", "--growth_widths=a"], "growth_widths: got ['a'], allowed: whole"),
        (["--peer_shapes=2x2x2x2", "--peers=keras"], "peers: got 'keras', allowed: each of"),
        (["--peer_shapes=2x2x2x2", "--peers="], "peers: got '', allowed: each of"),
        (["--peer_shapes=2x2x2x2", "--precisions=bf16"], "precisions: got 'bf16', allowed beside"),
    ],
)
def test_bad_flags_are_refused_before_any_work(
    arguments, words, parse_flags, tmp_path, monkeypatch
):
    monkeypatch.setattr(benchmark, "_run", None)
    folder = tmp_path / "run"
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(parse_flags(*arguments, f"--workdir={folder}"))
    assert str(stopped.value).startswith(f"error: {words}")
    assert not folder.exists()


def test_absent_peers_are_refused_with_the_command_that_installs_them(
    parse_flags, tmp_path, monkeypatch
):
    monkeypatch.setattr(benchmark_compare.util, "find_spec", lambda name: None)
    folder = tmp_path / "run"
    with pytest.raises(SystemExit, match=r'needs torch: pip install "saejax\[benchmark\]"$'):
        benchmark.main(parse_flags("--peer_shapes=2x2x2x2", f"--workdir={folder}"))
    assert not folder.exists()


def test_an_interrupted_benchmark_keeps_its_rows_and_says_where(parse_flags, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    row = {"share": 0.5}
    answers = iter([row])

    def one(*_, **__):
        found = next(answers, None)
        if found is None:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(ours, "measure", one)
    with pytest.raises(SystemExit, match=f"^interrupted; the tables in {folder} hold"):
        benchmark.main(parse_flags("--shapes=2x2x2x1,2x2x2x2", f"--workdir={folder}"))
    assert rows_of(folder / "shapes.csv") == [{"share": "0.5"}]
