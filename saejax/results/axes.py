"""The axes of a sweep, a row each, and what stands where there is no cell."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from saejax.core.checks import as_python, check_choice, check_number, check_whole
from saejax.metrics.catalogue import SUMMED
from saejax.sae.registry import KINDS, as_architecture
from saejax.sae.revival import REVIVALS

# Relative difference up to which two coordinates are taken for the same number.
SAME = 1e-3
# `frozen_at` of a cell that was never frozen, and of a combination of coordinates that is no cell.
TRAINED, ABSENT = -1, -2
# Adam moves no weight by more than 7.3 lr: with m = (1 - b1) sum_k b1^k g_k and v = (1 - b2) sum_k
# b2^k g_k^2, Cauchy and Schwarz give |m| / sqrt(v) <= (1 - b1) / sqrt((1 - b2) (1 - b1^2 / b2)) =
# 7.27, and the bias corrections only lower it. At this rate a moved row of W_dec has a squared norm
# of at most d_in (1 + 7.3e15)^2, which float32 holds up to d_in = 6e6. Beyond, the projection would
# divide the row by infinity and leave zeros.
MAX_LR = 1e15


@dataclass(frozen=True)
class Axis:
    """An axis of a sweep.

    Args:
        name: in coordinates, tables and file names.
        allowed: what a value may be, in words.
        check: (name, value, allowed) -> the value as the library holds it, or a ValueError.
        argument: what `Sweep` calls one that is not traced; as its name where empty.
        traced: turns a value into the number that the compiled step reads; None for an axis that
            changes the batches or a shape instead.
        by_architecture: whether a dict may give each architecture values of its own.
        unread: value of cells whose architecture does not read the axis (`Architecture.reads`);
            None where every architecture reads it.
        before: value of runs from before there was the axis, and of a `Sweep` that does not name
            it; None for axes as old as the library.
        in_names: whether files of cells are named by it also where it has one value.
        shown: what its values are in pictures: panels, rows or columns of one, averaged over, or
            variants, which have pictures of their own.
    """

    name: str
    allowed: str = "a name"
    check: Callable[[str, Any, str], Any] = lambda name, value, allowed: value
    argument: str = ""
    traced: Callable[[Any], np.number] | None = None
    by_architecture: bool = False
    unread: Any = None
    before: Any = None
    in_names: bool = False
    shown: Literal["panel", "mean", "row", "column", "variant"] = "variant"

    def __post_init__(self) -> None:
        object.__setattr__(self, "argument", self.argument or self.name)

    def values(self, given: Any, name: str = "") -> tuple:
        """Values along the axis from what a user hands in: a sequence of them, or one.

        Args:
            given: what it is.
            name: how errors name it; as the argument where empty.

        Raises:
            ValueError: for no value, one twice, one that is not allowed, and two that are too close
                to tell apart.
        """
        name, given = name or self.argument, as_python(given)
        if not isinstance(given, Sequence) or isinstance(given, str | bytes):
            return (self.check(name, given, f"{self.allowed}, or a sequence of such"),)
        if not given:
            raise ValueError(f"{name}: got no value, allowed: at least one, each {self.allowed}")
        values = tuple(self.check(name, value, self.allowed) for value in given)
        if len(set(values)) < len(values):
            raise ValueError(f"{name}: got {values}, allowed: each value once")
        check_apart(name, values)
        return values

    def numbers(self, values: Sequence[Any]) -> np.ndarray:
        """Values of a traced axis as the compiled step reads them."""
        assert self.traced is not None
        return np.array([self.traced(value) for value in values])


def check_apart(name: str, values: tuple) -> None:
    """Refuses floats that would be taken for the same coordinate."""
    for low, high in pairwise(sorted(v for v in values if isinstance(v, float))):
        if math.isclose(low, high, rel_tol=SAME):
            raise ValueError(
                f"{name}: got {low!r} and {high!r}, allowed: values that differ by more than a "
                f"share of {SAME:g}"
            )


def _number(ok: Callable[[float], bool]) -> Callable[[str, Any, str], float]:
    return partial(check_number, ok=ok)


def _whole(ok: Callable[[int], bool]) -> Callable[[str, Any, str], int]:
    return partial(check_whole, ok=ok)


# Arrays on disk have their axes in this order, so a new one stands at the end.
TABLE = (
    Axis("dataset", in_names=True, shown="panel"),
    Axis(
        *("seed", "a whole number from 0 to 2**32 - 1", _whole(lambda v: 0 <= v < 2**32)),
        argument="seeds",
        in_names=True,
        shown="mean",
    ),
    Axis("ratio", "a number above 0", _number(lambda v: v > 0), in_names=True, shown="row"),
    Axis(
        *("l1", "a number, 0 or more, up to 1e18", _number(lambda v: 0 <= v <= 1e18)),
        traced=np.float32,
        by_architecture=True,
        unread=0.0,
        in_names=True,
        shown="column",
    ),
    Axis(
        *("lr", "a number above 0, up to 1e15", _number(lambda v: 0 < v <= MAX_LR)),
        traced=np.float32,
    ),
    Axis(
        "resample",
        f"one of {', '.join(REVIVALS)}",
        partial(check_choice, choices=REVIVALS),
        traced=lambda way: np.int32(REVIVALS.index(way)),
        by_architecture=True,
    ),
    Axis(
        "architecture",
        f"one of {', '.join(KINDS)}, or an object of saejax.sae.registry",
        as_architecture,
        before="relu",
    ),
    Axis(
        *("k", "a whole number, 1 or more", _whole(lambda v: 1 <= v < 2**31)),
        traced=np.float32,
        by_architecture=True,
        unread=0,
        before=0,
        shown="column",
    ),
)
AXES = tuple(axis.name for axis in TABLE)
BY_NAME = {axis.name: axis for axis in TABLE}
TRACED = tuple(axis for axis in TABLE if axis.traced)
# Those that set how sparse a cell is; each architecture reads one of them.
SPARSITY = tuple(axis.name for axis in TABLE if axis.shown == "column")
# A table of results begins with those of these columns that tell cells apart, and ends with the
# other axes.
FIRST_COLUMNS = ("dataset", "architecture", "ratio", "l1", "k", "seed")


def coordinates(coords: Mapping[str, tuple], index: tuple[int, ...]) -> dict[str, Any]:
    """A cell's coordinates by name, from its position along the axes."""
    return {name: values[i] for (name, values), i in zip(coords.items(), index, strict=True)}


def telling(coords: Mapping[str, tuple]) -> tuple[str, ...]:
    """The axes that tell cells apart: those that always stand in names, and what is swept."""
    return tuple(name for name in AXES if BY_NAME[name].in_names or len(coords[name]) > 1)


def nothing(name: str, dtype: np.dtype) -> float | int:
    """What an array of measurements holds where there is no cell: `ABSENT`, NaN, or index -1."""
    if name == "frozen_at":
        return ABSENT
    return np.nan if np.issubdtype(dtype, np.floating) else -1


def final_values(history: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each measurement's last value; of learned and unlearned the sum over all evaluations."""
    return {name: a.sum(0) if name in SUMMED else a[-1] for name, a in history.items()}


def same(value: Any, wanted: Any) -> bool:
    """Whether two values are one coordinate: floats may be off by a thousandth."""
    if isinstance(value, float) and isinstance(wanted, int | float):
        return bool(np.isclose(value, wanted, rtol=SAME, atol=0))
    return value == wanted
