"""The published heat maps of the grid study, and how closely ours agree with them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from saejax.results.axes import SAME
from saejax.results.result import Result
from saejax.sae.registry import described

# Our name of a metric -> the name of its published heat map.
_MAPS = {
    "mmcs_true_to_dict": "mmcs_true_to_dict",
    "mse": "recon_loss",
    "dead_latents": "dead_latents_clipped_at_100",
    "mmcs_to_next_larger": "mmcs_to_next_larger",
}


def grid() -> dict[str, Any]:
    """The grid study's published heat maps, read off its pictures (error about 0.01 of a range).

    Returns:
        `ratios`, `l1`, `maps` (data set -> metric -> [ratio, l1]) and `note`. Dead latents are
        clipped at 100 in the picture; the widest dictionary has no larger one, which is NaN here.

    Source: "Towards a Probabilistic Disentanglement of Transformer Activations", part 2.
    """
    raw = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    maps = {}
    for dataset in raw["datasets"]:
        maps[dataset] = {name: np.array(raw[dataset][key], float) for name, key in _MAPS.items()}
        maps[dataset]["mmcs_to_next_larger"][-1] = np.nan
        maps[dataset]["dead_latents"] = np.maximum(maps[dataset]["dead_latents"], 0)
    return {"ratios": raw["ratios"], "l1": raw["l1"], "maps": maps, "note": raw["note"]}


def shared(result: Result, **where: Any) -> tuple[list[float], list[float]]:
    """The ratios and L1 coefficients that a result has in common with the published maps.

    Args:
        result: of the grid study.
        where: coordinates, a swept architecture among them.
    """
    published, l1 = grid(), result.sparsity(**where)[1]
    ratios = [v for v in result.coords["ratio"] if _find(published["ratios"], v) >= 0]
    return ratios, [v for v in l1 if _find(published["l1"], v) >= 0]


def beside(
    result: Result, dataset: str, metric: str, **where: Any
) -> tuple[np.ndarray, np.ndarray] | None:
    """Our mean over seeds and the published map, on the coordinates that both have.

    Args:
        result: of the grid study.
        dataset: a data set of it.
        metric: a measured metric.
        where: further coordinates: a swept lr, resample or architecture must be among them, one
            seed may be.

    Returns:
        Two arrays [ratio, l1] over `shared`, NaN where either has no value; None when there is no
        published map, for SAEs of another kind than the published ones, and when it shares fewer
        than four cells with ours.
    """
    published = grid()
    theirs = published["maps"].get(dataset, {}).get(metric)
    name = where.get("architecture", result.coords["architecture"][0])
    if theirs is None or metric not in result.final or not is_published(result.run, name):
        return None
    ours = result.grid(metric, dataset=dataset, **where)[0]
    if metric == "dead_latents":  # the published picture stops there; ranks above it mean nothing
        ours = np.minimum(ours, 100)
    rows, columns = shared(result, **where)

    def cut(values: np.ndarray, ratios: Sequence[float], l1: Sequence[float]) -> np.ndarray:
        return values[np.ix_([_find(ratios, v) for v in rows], [_find(l1, v) for v in columns])]

    ours = cut(ours, result.coords["ratio"], result.sparsity(dataset=dataset, **where)[1])
    theirs = cut(theirs, published["ratios"], published["l1"])
    both = np.isfinite(ours) & np.isfinite(theirs)
    if both.sum() < 4:
        return None
    return np.where(both, ours, np.nan), np.where(both, theirs, np.nan)


def is_published(run: Mapping[str, Any], name: str) -> bool:
    """Whether an architecture is that of the texts: a ReLU with an L1 penalty."""
    described_as = run.get("architectures", {}).get(name, {})
    return described(run, name) == "relu" and "objective" not in described_as


def rank_correlation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Spearman's rank correlation over the cells that both maps have."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    return float(spearmanr(ours[both], theirs[both]).statistic)  # pyright: ignore


def _find(values: Sequence[float], wanted: float) -> int:
    """Position of a value, to a thousandth; -1 where it is absent."""
    hits = np.flatnonzero(np.isclose(values, wanted, rtol=SAME, atol=0))
    return int(hits[0]) if hits.size else -1
