"""How fast sweeps train: their share of the machine's rate, their growth, and beside their peers.

    python -m saejax.experiments.benchmark --flagfile=experiments/benchmark/cpu.flags

Runs and matrix products, or runs of this library and its peers, take turns, so that a machine whose
speed drifts slows all of them. Useful work is 10 * batch * d_in * d_sae FLOP for each cell and
step. In the tables of this library alone, drawing the batches, Adam and the projection count as
time, not as work; beside the peers everybody is given the same batches, drawn before.
"""

import io
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from saejax.core.files import write_bytes, write_text
from saejax.core.machine import machine
from saejax.core.precision import PRECISIONS
from saejax.core.table import Table
from saejax.experiments.benchmark import compare, goals, imports, ours, pictures
from saejax.experiments.benchmark.growth import Growth
from saejax.experiments.benchmark.problem import Shape, parse
from saejax.experiments.benchmark.turns import product
from saejax.experiments.common import command
from saejax.experiments.common.flagtable import define
from saejax.results import workdir

# What the terminal has room for; the files have every column.
_SIZES = ("d_in", "d_sae", "batch", "cells")
_EXTREMES = ("lowest", "highest")
PRINTED = {
    "shapes": (*_SIZES, "precision", "seconds", "gflops", "product_gflops", "share", *_EXTREMES),
    "growth": ("grows", *_SIZES, "seeds", "precision", "seconds", "seconds_per_cell", "share"),
    "peers": (
        *(*_SIZES, "steps", "method", "seconds", "times_ours", *_EXTREMES),
        *("objective", "mse", "l1_loss", "l0", "apart"),
    ),
}

FLAGS = flags.FlagValues()
SHAPE = "d_in x d_sae x batch x cells"
SECONDS = "About how long a timed run of this library takes; 4 steps at least, 10 beside the peers."
command.define_workdir(FLAGS, "runs/benchmark")
define(
    FLAGS,
    list,
    shapes=(
        ["256x2048x1024x6"],
        f"{SHAPE} of each measurement of this library alone; none: empty.",
    ),
    precisions=(["highest"], f"Operands of the products, of: {', '.join(PRECISIONS)}."),
    growth_cells=(["1", "4", "16", "64"], "Numbers of cells, instead of that of --growth."),
    growth_widths=(["64", "256", "1024"], "d_sae, likewise."),
    growth_seeds=(["1", "2", "4"], "Numbers of seeds, each with cells and batches of its own."),
    peer_shapes=([], f"{SHAPE} of each task beside the peers."),
    peers=(list(compare.PEERS), f"Who else trains, of: {', '.join(compare.PEERS)}."),
)
define(FLAGS, str, growth=(None, f"{SHAPE} that grows one number at a time."))
define(
    FLAGS,
    int,
    turns=(7, "How often each is timed; tables have medians and extremes."),
    size=(2048, "Side of the square matrices of the plain product."),
)
define(FLAGS, float, seconds=(1.0, SECONDS))
define(FLAGS, bool, imports=(False, "Also what importing saejax costs beside jax and optax."))


class Asked(NamedTuple):
    """What the flags ask for: shapes, what grows, tasks beside the peers, peers, precisions."""

    alone: list[Shape]
    grows: Growth | None
    tasks: list[Shape]
    peers: list[str]
    precisions: list[Any]


def shapes(name: str) -> list[Shape]:
    """The shapes in a list flag, in the order of their numbers.

    Raises:
        ValueError: for a text that is none, or one that stands twice.
    """
    texts: list[str] = FLAGS[name].value or []
    out = [parse(name, text) for text in texts]
    if len({*out}) < len(out):
        raise ValueError(f"{name}: got {','.join(texts)!r}, allowed: each shape once")
    return sorted(out)


def growth() -> Growth | None:
    """What grows, None where nothing is asked for.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    if FLAGS.growth is None:
        return None
    base = parse("growth", FLAGS.growth)
    values = {}
    for name in ("cells", "widths", "seeds"):
        flag = f"growth_{name}"
        found = command.numbers(FLAGS, flag, int)
        if not found or min(found) < 1 or sorted({*found}) != found:
            raise ValueError(
                f"{flag}: got {FLAGS[flag].value!r}, allowed: whole numbers, 1 or more, rising"
            )
        values[name] = tuple(found)
    for cells in values["cells"]:
        parse("growth_cells", "x".join(map(str, base._replace(cells=cells))))
    return Growth(base, **values)


def check() -> Asked:
    """Everything that the flags ask for.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
        ImportError: where a peer is not installed.
    """
    alone, grows, tasks = shapes("shapes"), growth(), shapes("peer_shapes")
    if not alone and grows is None and not tasks and not FLAGS.imports:
        raise ValueError(
            "shapes: got none, allowed: one at least here, in growth or in peer_shapes"
        )
    precisions = command.chosen(FLAGS, "precisions", PRECISIONS)
    if "tf32" in precisions and jax.default_backend() == "cpu":
        raise ValueError(
            "precisions: got 'tf32', which a CPU does not have; allowed: highest, bf16"
        )
    for name, value in (("turns", FLAGS.turns), ("size", FLAGS.size)):
        if value < 1:
            raise ValueError(f"{name}: got {value}, allowed: 1 or more")
    if not 0 < FLAGS.seconds < 3600:
        raise ValueError(f"seconds: got {FLAGS.seconds}, allowed: above 0, below 3600")
    peers = command.chosen(FLAGS, "peers", [*compare.PEERS]) if tasks else []
    if tasks and "highest" not in precisions:
        raise ValueError(
            f"precisions: got {','.join(precisions)!r}, allowed beside peers, who compute in "
            "float32: highest, and others with it"
        )
    compare.require(peers)
    return Asked(alone, grows, tasks, peers, precisions)


def main(argv: list[str]) -> None:
    """Measures, prints the tables, and leaves them and their pictures in the workdir."""
    with command.one_line_errors(argv, FLAGS.workdir, goes_on=False):
        asked = check()
        path = workdir.new_workdir(FLAGS.workdir)
        write_text(path / "config.flags", command.flagfile(FLAGS))
        write_text(path / "machine.json", json.dumps(machine(), indent=1))
        try:
            _run(path, asked)
        except KeyboardInterrupt:
            sys.exit(f"interrupted; the tables in {path} hold what was measured")
    print(f"tables and pictures: {path}")


def _run(path: Path, asked: Asked) -> None:
    alone, grows, tasks, peers, precisions = asked
    timing: dict[str, Any] = {"seconds": FLAGS.seconds, "turns": FLAGS.turns}

    def measure(shape: Shape, precision: Any, seeds: int = 1, **head: str) -> list[dict[str, Any]]:
        row = ours.measure(shape, precision, seeds=seeds, size=FLAGS.size, **timing)
        return [head | row]

    platform, about = jax.default_backend(), machine()
    print(f"{about['device']}, jax {about['versions']['jax']}; medians of {FLAGS.turns} turns")
    met: list[dict[str, Any]] = []
    if alone:
        jobs = [partial(measure, s, p) for s in alone for p in precisions]
        rows = _table(path, "shapes", jobs)
        print(f"share: of the rate of a float32 {FLAGS.size} x {FLAGS.size} product in turns")
        _show("shapes", rows)
        met += goals.of_shares(rows, platform)
        _picture(path, "shapes", pictures.shares(rows))
    if grows:
        jobs = [
            partial(measure, shape, precision, seeds, grows=what)
            for what, shape, seeds in grows.points()
            for precision in precisions
        ]
        rows = _table(path, "growth", jobs)
        print(f"growth from {FLAGS.growth}")
        _show("growth", rows)
        _picture(path, "growth", pictures.growth(rows, grows))
    if tasks:
        who = Table(compare.methods(peers, precisions))
        write_text(path / "methods.csv", who.to_csv())
        rate = product(FLAGS.size)()
        who_and_how = {"peers": peers, "precisions": precisions, "rate": rate, **timing}
        jobs = [partial(compare.side_by_side, shape, **who_and_how) for shape in tasks]
        rows = _table(path, "peers", jobs)
        print("side by side: same weights, batches and steps")
        _show("peers", rows)
        for row in who:
            print(f"{row['method']} ({row['version']}): {row['note']}")
        met += goals.of_peers(rows, platform)
        _picture(path, "peers", pictures.beside(rows, platform))
        faded = pictures.fading(rows)
        if faded is not None:
            _picture(path, "fading", faded)
    if FLAGS.imports:
        costs = imports.cost(FLAGS.turns)
        write_text(path / "imports.csv", costs.to_csv())
        print(f"imports\n{costs}")
    if met:
        table = Table(met)
        write_text(path / "goals.csv", table.to_csv())
        print(f"goals\n{table}")


def _table(path: Path, name: str, jobs: Sequence[Callable[[], list[dict[str, Any]]]]) -> Table:
    """The rows of all jobs, written after each so that an interruption loses none."""
    rows = Table()
    for job in tqdm(jobs, desc=name, unit="measurement"):
        rows.extend(job())
        write_text(path / f"{name}.csv", rows.to_csv())
    return rows


def _show(name: str, rows: Table) -> None:
    print(Table({column: row[column] for column in PRINTED[name]} for row in rows))


def _picture(path: Path, name: str, figure: Figure) -> None:
    with io.BytesIO() as buffer:
        figure.savefig(buffer, format="png", dpi=120)
        write_bytes(path / f"{name}.png", buffer.getvalue())


if __name__ == "__main__":
    command.run(main, FLAGS)
