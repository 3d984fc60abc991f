"""What the formats share: tensors that are checked, and weights as other libraries have them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saejax.sae.params import Params, SAEConfig, standard
from saejax.sae.trained import SAE


def as_float32(array: Any) -> np.ndarray:
    """A copy in float32 that lies in memory in the order of its axes."""
    return np.array(array, np.float32, order="C")


def take(tensors: Mapping[str, Any], names: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Exactly the named tensors in float32, under the names of `Params`.

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
    return {field: as_float32(tensors[name]) for name, field in names.items()}


def for_others(sae: SAE, sees_x: bool = False) -> Params:
    """An SAE's weights with a b_dec, of zeros where it has none, and with linear thresholds.

    Where their encoder sees x instead of `x - b_dec`, it is changed to see that.
    """
    params = sae.params
    b_dec = np.zeros(sae.d_in, np.float32) if params.b_dec is None else params.b_dec
    if sees_x:
        params = seeing_centred(params._replace(b_dec=-b_dec))
    params = params._replace(b_dec=b_dec)
    if params.log_threshold is not None:
        params = params._replace(threshold=np.exp(as_float32(params.log_threshold)))
    return params


def logarithm(threshold: np.ndarray) -> np.ndarray:
    """`log_threshold` of a threshold; one of 0 or less acts as 0, which is minus infinity."""
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(threshold, 0))


def seeing_centred(params: Params) -> Params:
    """Weights of an encoder that sees x, changed to see `x - b_dec` (`params.standard`)."""
    moved = standard(params, SAEConfig(apply_b_dec_to_input=False))
    return Params(*(None if a is None else np.asarray(a) for a in moved))  # pyright: ignore
