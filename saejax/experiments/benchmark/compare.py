"""Side by side: this library and its peers on the same tasks, times and losses together."""

import importlib
import statistics
from collections.abc import Callable, Sequence
from importlib import metadata, util
from typing import Any, NamedTuple

import numpy as np

from saejax.core.precision import Precision
from saejax.experiments.benchmark import ours
from saejax.experiments.benchmark.problem import Problem, Shape, judge, make_problem
from saejax.experiments.benchmark.turns import take_turns

OURS = "saejax"
# The losses of a few steps would say little about who computes the same.
LEAST_STEPS = 10


class Peer(NamedTuple):
    """Another way to train the same SAEs.

    Attributes:
        module: of `saejax.benchmark`.
        function: in it, that prepares a run.
        packages: what it imports, and the distributions that hold them.
        note: what it does besides, or leaves out.
    """

    module: str
    function: str
    packages: dict[str, str]
    note: str


TORCH = {"torch": "torch"}
SAELENS = {**TORCH, "sae_lens": "sae-lens"}
PEERS = {
    "torch_loop": Peer(
        "torch_loop",
        "prepare",
        TORCH,
        "the published recipe, one SAE after another, plain autograd and Adam; same objective and "
        "projection, no bookkeeping, no check that updates are finite",
    ),
    "torch_ensemble": Peer(
        "torch_ensemble",
        "prepare",
        TORCH,
        "the recipe's module stacked by torch.func and vmapped; the rest as torch_loop",
    ),
    "saelens_toy": Peer(
        "saelens",
        "prepare_toy",
        SAELENS,
        "train_toy_sae for one SAE after another, fed the same batches; same objective after "
        "conversion, but rows of W_dec are free (the penalty has their norms instead of a "
        "projection) and gradients are clipped at norm 1; counts how often each latent fires",
    ),
    "saelens_multi": Peer(
        "saelens",
        "prepare_multi",
        SAELENS,
        "MultiSAETrainer, one step of every SAE in turn on a shared batch; the rest as saelens_toy",
    ),
}
OURS_NOTE = (
    "all SAEs in one compiled program; refuses updates that are not finite; first_seconds has the "
    "compilation"
)


def require(peers: Sequence[str]) -> None:
    """Refuses peers that cannot run here, before anything is timed.

    Raises:
        ImportError: where a package is missing.
        ValueError: where torch does not see the device that JAX trains on.
    """
    for name in peers:
        for package, distribution in PEERS[name].packages.items():
            if util.find_spec(package) is None:
                raise ImportError(
                    f"peers: got {name}, which needs {distribution}: "
                    'pip install "saejax[benchmark]"'
                )
    if peers:
        importlib.import_module("saejax.experiments.benchmark.recipe").device()


def methods(peers: Sequence[str], precisions: Sequence[Precision]) -> list[dict[str, str]]:
    """A row for each that is timed: its name, its version, and what it does besides or leaves
    out."""
    rows = [
        {"method": label(p), "version": metadata.version("saejax"), "note": OURS_NOTE}
        for p in precisions
    ]
    for name in peers:
        distributions = PEERS[name].packages.values()
        versions = ", ".join(f"{d} {metadata.version(d)}" for d in distributions)
        rows.append({"method": name, "version": versions, "note": PEERS[name].note})
    return rows


def label(precision: Precision) -> str:
    """How a row names this library; `highest` is the float32 that the peers compute in."""
    return OURS if precision == "highest" else f"{OURS} {precision}"


def side_by_side(
    shape: Shape,
    peers: Sequence[str],
    precisions: Sequence[Precision],
    *,
    seconds: float,
    turns: int,
    rate: float,
) -> list[dict[str, Any]]:
    """Everybody on one task, in turns.

    Args:
        shape: sizes.
        peers: names in `PEERS`.
        precisions: this library's, `highest` among them.
        seconds: about how long this library's timed run takes, with `LEAST_STEPS` at least.
        turns: timed runs of each; every one starts from the same weights.
        rate: FLOP/s of a plain float32 product, to guess the number of steps from.

    Returns:
        A row for each. `seconds` are those of a step of all cells, median and extremes over the
        turns; `times_ours` is the ratio to this library in each turn, median. Losses are means over
        the cells on held-out samples, measured by one function; `apart` is the largest relative
        difference of a cell's objective from this library's.
    """
    problem = make_problem(shape, ours.steps_for(shape.flops, rate, seconds, LEAST_STEPS))
    runs: dict[str, Callable[[], Any]] = {
        label(p): ours.prepare(problem, p) for p in sorted(precisions, key="highest".__ne__)
    }
    runs |= {name: _prepared(name, problem) for name in peers}
    timed = take_turns(runs, turns)
    first = timed[OURS].seconds
    reference = judge(problem, timed[OURS].results[-1]())["objective"]
    rows = []
    for name, each in timed.items():
        losses = judge(problem, each.results[-1]())
        ratios = [a / b for a, b in zip(each.seconds, first, strict=True)]
        steps = [s / problem.steps for s in each.seconds]
        rows.append(
            {
                **shape._asdict(),
                "steps": problem.steps,
                "method": name,
                "seconds": statistics.median(steps),
                "fastest": min(steps),
                "slowest": max(steps),
                "times_ours": statistics.median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
                **{key: float(values.mean()) for key, values in losses.items()},
                "apart": float(np.max(np.abs(losses["objective"] / reference - 1))),
                "first_seconds": each.first,
            }
        )
    return rows


def _prepared(name: str, problem: Problem) -> Callable[[], Any]:
    peer = PEERS[name]
    module = importlib.import_module(f"saejax.experiments.benchmark.{peer.module}")
    return getattr(module, peer.function)(problem)
