"""Published results to stand beside ours, and how closely two heat maps agree."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from saejax.architectures import described
from saejax.result import Result
from saejax.sweep import SAME

# MMCS of PCA in the toy study ("Towards a Probabilistic Disentanglement ...", part 1).
TOY3D_PCA = 0.42
# MMCS of the baseline methods in part 2, at 512 to 2048 samples.
BASELINES = {
    "uncorrelated": {"kmeans": 0.56, "kmedoids": 0.21, "pca": 0.17, "ica": 0.17},
    "correlated": {"kmeans": 0.59, "kmedoids": 0.45, "pca": 0.18, "ica": 0.19},
}
# Percentages of the GPT-2 study: what -> way to revive -> l1 -> by expansion. One run each, 50 labels
# an SAE ("Sparse Autoencoders for Monosemanticity").
GPT2_EXPANSION = (4.0, 8.0, 16.0, 32.0)
GPT2 = {
    "dead": {
        "off": {0.01: (13.1, 26.3, 29.3, 35.2), 0.0001: (15.4, 27.5, 33.4, 35.6)},
        "on": {0.01: (4.8, 3.9, 15.7, 26.97), 0.0001: (5.24, 4.51, 11.72, 23.43)},
    },
    "monosemantic": {
        "off": {0.01: (82, 86, 84, 86), 0.0001: (82, 82, 80, 78)},
        "on": {0.01: (72, 78, 88, 80), 0.0001: (80, 78, 78, 76)},
    },
}
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
    text = resources.files("saejax").joinpath("published_grid.json").read_text(encoding="utf-8")
    raw = json.loads(text)
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
    published = grid()
    return (
        _common(result.coords["ratio"], published["ratios"]),
        _common(result.sparsity(**where)[1], published["l1"]),
    )


def beside(
    result: Result, dataset: str, metric: str, **where: Any
) -> tuple[np.ndarray, np.ndarray] | None:
    """Our mean over seeds and the published map, on the coordinates that both have.

    Args:
        result: of the grid study.
        dataset: a data set of it.
        metric: a measured metric.
        where: further coordinates: a swept lr, resample or architecture must be among them, one seed
            may be.

    Returns:
        Two arrays [ratio, l1] over `shared`, NaN where either has no value; None when there is no
        published map, for SAEs of another kind than the published ones, and when it shares fewer than
        four cells with ours.
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
    own = run.get("architectures", {}).get(name, {})
    return described(run, name) == "relu" and "objective" not in own


def rank_correlation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Spearman's rank correlation over the cells that both maps have."""
    both = np.isfinite(ours) & np.isfinite(theirs)
    return float(spearmanr(ours[both], theirs[both]).statistic)  # pyright: ignore


def _find(values: Sequence[float], wanted: float) -> int:
    """Position of a value, to a thousandth; -1 where it is absent."""
    hits = np.flatnonzero(np.isclose(values, wanted, rtol=SAME, atol=0))
    return int(hits[0]) if hits.size else -1


def _common(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [value for value in ours if _find(theirs, value) >= 0]


# SynthSAEBench-16k: L0 -> architecture -> metric -> mean and standard deviation over 5 seeds, of SAEs
# with 4096 latents after 200 million samples (batch 1024, lr 3e-4). Source: documentation of SAELens,
# page SynthSAEBench; the paper is Chanin and Garriga-Alonso, 2026, arXiv 2602.14687.
_SYNTHBENCH_METRICS = ("f1", "mcc", "uniqueness", "explained_variance")
_SYNTHBENCH = {
    25: {
        "relu": (0.5562, 0.0020, 0.6039, 0.0012, 0.8976, 0.0021, 0.7654, 0.0001),
        "batchtopk": (0.7316, 0.0010, 0.7574, 0.0003, 0.9837, 0.0015, 0.7923, 0.0003),
        "jumprelu": (0.7317, 0.0034, 0.7527, 0.0009, 0.9885, 0.0010, 0.7951, 0.0004),
        "matryoshka": (0.8793, 0.0021, 0.7927, 0.0006, 0.9987, 0.0005, 0.7792, 0.0004),
        "matching pursuit": (0.4464, 0.0044, 0.6930, 0.0030, 0.8281, 0.0069, 0.8351, 0.0003),
    },
    20: {
        "relu": (0.5777, 0.0012, 0.5834, 0.0015, 0.8528, 0.0055, 0.7501, 0.0009),
        "batchtopk": (0.8183, 0.0011, 0.7526, 0.0007, 0.9760, 0.0028, 0.7889, 0.0002),
        "jumprelu": (0.8241, 0.0041, 0.7434, 0.0015, 0.9781, 0.0029, 0.7906, 0.0005),
        "matryoshka": (0.8601, 0.0016, 0.7455, 0.0021, 0.9874, 0.0020, 0.7699, 0.0002),
        "matching pursuit": (0.4439, 0.0024, 0.6748, 0.0028, 0.7552, 0.0026, 0.8267, 0.0003),
    },
}  # fmt: skip


def synthbench() -> dict[int, dict[str, dict[str, tuple[float, float]]]]:
    """Published results on SynthSAEBench-16k: L0 -> architecture -> metric -> (mean, sd)."""
    return {
        l0: {
            name: dict(zip(_SYNTHBENCH_METRICS, zip(v[::2], v[1::2], strict=True), strict=True))
            for name, v in rows.items()
        }
        for l0, rows in _SYNTHBENCH.items()
    }
