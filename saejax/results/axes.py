"""The axes of a sweep, and what stands where there is no cell."""

from collections.abc import Mapping
from typing import Any

import numpy as np

AXES = ("dataset", "seed", "ratio", "l1", "lr", "resample", "architecture", "k")
# Relative difference up to which two coordinates are taken for the same number.
SAME = 1e-3


# `frozen_at` of a cell that was never frozen, and of a combination of coordinates that is no cell.
TRAINED, ABSENT = -1, -2


def coordinates(coords: Mapping[str, tuple], index: tuple[int, ...]) -> dict[str, Any]:
    """A cell's coordinates by name, from its position along the axes."""
    return {name: values[i] for (name, values), i in zip(coords.items(), index, strict=True)}


def nothing(name: str, dtype: np.dtype) -> float | int:
    """What an array of measurements holds where there is no cell: `ABSENT`, NaN, or index -1."""
    if name == "frozen_at":
        return ABSENT
    return np.nan if np.issubdtype(dtype, np.floating) else -1


def final_values(history: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each measurement's last value; of learned and unlearned the sum over all evaluations."""
    summed = ("learned", "unlearned")
    return {name: a.sum(0) if name in summed else a[-1] for name, a in history.items()}


def same(value: Any, wanted: Any) -> bool:
    """Whether two values are one coordinate: floats may be off by a thousandth."""
    if isinstance(value, float) and isinstance(wanted, int | float):
        return bool(np.isclose(value, wanted, rtol=SAME, atol=0))
    return value == wanted
