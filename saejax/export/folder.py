"""What the formats share: folders that are whole or absent, files that are as they must be."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saejax.sae.params import Params, SAEConfig, standard


def as_float32(array: Any) -> np.ndarray:
    """A copy in float32 that lies in memory in the order of its axes."""
    return np.array(array, np.float32, order="C")


def take(tensors: Mapping[str, Any], names: Sequence[str], path: Path) -> dict[str, Any]:
    """Exactly the named tensors, in float32.

    Raises:
        ValueError: naming the file and the first tensor that is missing or not known.
    """
    allowed = f"allowed: {', '.join(names)}"
    for name in names:
        if name not in tensors:
            raise ValueError(f"{path}: got no tensor {name}, {allowed}")
    for name in tensors:
        if name not in names:
            raise ValueError(f"{path}: got the tensor {name}, {allowed}")
    return {name: as_float32(tensors[name]) for name in names}


def logarithm(threshold: np.ndarray) -> np.ndarray:
    """`log_threshold` of a threshold; one of 0 or less acts as 0, whose logarithm is minus
    infinity."""
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(threshold, 0))


def seeing_centred(params: Params) -> Params:
    """Weights of an encoder that sees x, for one that sees `x - b_dec`
    (`saejax.sae.params.standard`)."""
    moved = standard(params, SAEConfig(apply_b_dec_to_input=False))
    return Params(*(None if a is None else np.asarray(a) for a in moved))  # pyright: ignore


def seeing_plain(params: Params) -> Params:
    """The way back from `seeing_centred`."""
    assert params.b_dec is not None
    return seeing_centred(params._replace(b_dec=-params.b_dec))._replace(b_dec=params.b_dec)
