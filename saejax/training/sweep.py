"""Axes of a sweep, and its cells as stacked groups.

A sweep is the product of its axes, where an architecture takes of l1, k and resample what it knows:
a part of the sweep for each architecture. Cells of one architecture and d_sae form a group, whose
arrays carry the leading axes [source, hyper]: a source is one (dataset, seed), a hyper one (l1, lr,
resample, k). Nothing is padded, and every swept number that does not change a shape is an input of
the compiled step.

In training state W_dec is held as its transpose [d_in, d_sae]: all products and the Adam update
then read it in the order in which it lies (BUILD_NOTES.md, "Transposed operands"). `public` undoes
that.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from typing import Any, NamedTuple

from saejax.core.checks import as_python, check_choice, check_number, check_whole
from saejax.results.axes import AXES, SAME
from saejax.sae.registry import KINDS, Architecture, as_architecture
from saejax.sae.revival import REVIVALS

PUBLISHED_L1 = tuple(float(f"{10 ** (k / 4):.7g}") for k in range(-8, -2))
PUBLISHED_RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# Adam moves no weight by more than 7.3 lr: with m = (1 - b1) sum_k b1^k g_k and v = (1 - b2) sum_k
# b2^k g_k^2, Cauchy and Schwarz give |m| / sqrt(v) <= (1 - b1) / sqrt((1 - b2) (1 - b1^2 / b2)) =
# 7.27, and the bias corrections only lower it. At this rate a moved row of W_dec has a squared norm
# of at most d_in (1 + 7.3e15)^2, which float32 holds up to d_in = 6e6. Beyond, the projection would
# divide the row by infinity and leave zeros.
MAX_LR = 1e15


def _axis(name: str, values: Any, allowed: str, check: Callable[[str, Any, str], Any]) -> tuple:
    values = as_python(values)
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        return (check(name, values, f"{allowed}, or a sequence of such"),)
    if not values:
        raise ValueError(f"{name}: got no value, allowed: at least one, each {allowed}")
    values = tuple(check(name, value, allowed) for value in values)
    if len(set(values)) < len(values):
        raise ValueError(f"{name}: got {values}, allowed: each value once")
    _check_apart(name, values)
    return values


def _check_apart(name: str, values: tuple) -> None:
    """Refuses floats that would be taken for the same coordinate."""
    for low, high in pairwise(sorted(v for v in values if isinstance(v, float))):
        if math.isclose(low, high, rel_tol=SAME):
            raise ValueError(
                f"{name}: got {low!r} and {high!r}, allowed: values that differ by more than a "
                f"share of {SAME:g}"
            )


class Part(NamedTuple):
    """The cells of one architecture: the product of these, and of data sets, seeds and ratios."""

    architecture: Architecture
    l1: tuple[float, ...]
    k: tuple[int, ...]
    lr: tuple[float, ...]
    resample: tuple[str, ...]

    @property
    def hypers(self) -> list[tuple[float, float, str, int]]:
        """Every (l1, lr, resample, k), as a group's axis hyper has them: in the order of `AXES`."""
        return list(product(self.l1, self.lr, self.resample, self.k))


@dataclass(frozen=True, init=False)
class Sweep:
    """The axes of a sweep besides its data sets.

    An axis is a sequence or one-dimensional array of numbers; one number is an axis of one value.

    Args:
        l1: coefficients of the sparsity term, at most 1e18 so that squared gradients stay finite in
            float32. Default: the published 10^(-8/4) ... 10^(-3/4). A dict gives every architecture
            that reads it, by name, values of its own: those of a JumpReLU count active latents, and
            are of another size.
        ratio: d_sae over the number of true features, or over d_in where these are unknown.
            Default: the published eight, 0.25 ... 32.
        seeds: each seed draws its own ground truth, batches and initial weights.
        lr: Adam's learning rates, at most 1e15 so that no moved row of W_dec overflows.
        resample: how dead latents are revived, of "off", "on", "anthropic", "ghost", "auxk" (see
            `saejax.sae.revival`); each architecture takes those that it knows. A dict as in `l1`.
        architecture: names ("relu", "topk", "batchtopk", "jumprelu", "gated", "matryoshka") or
            objects of `saejax.sae.registry`, which hold their constants.
        k: active latents of a sample, of architectures that set their number. A dict as in `l1`.

    Not every combination is a cell: the l1 of an architecture that reads k is 0, and the other way
    round.

    Cells that differ in data set, l1, k, lr, resample or architecture alone start from the same
    weights, and cells of one seed share their true features, so differences along these axes are
    paired.

    Raises:
        ValueError: naming the argument, for an axis that is empty, repeats a value or holds one
            that is not allowed, and for one that no architecture reads.
    """

    l1: tuple[float, ...]
    ratio: tuple[float, ...]
    seeds: tuple[int, ...]
    lr: tuple[float, ...]
    resample: tuple[str, ...]
    architecture: tuple[str, ...]
    k: tuple[int, ...]
    parts: tuple[Part, ...]

    def __init__(
        self,
        l1: Sequence[float] | float | Mapping[str, Any] | None = None,
        ratio: Sequence[float] | float = PUBLISHED_RATIOS,
        seeds: Sequence[int] | int = (0,),
        lr: Sequence[float] | float = (1e-3,),
        resample: Sequence[str] | str | Mapping[str, Any] = ("off",),
        architecture: Sequence[str | Architecture] | str | Architecture = "relu",
        k: Sequence[int] | int | Mapping[str, Any] | None = None,
    ) -> None:
        penalty = partial(check_number, ok=lambda v: 0 <= v <= 1e18)
        above_zero = partial(check_number, ok=lambda v: v > 0)
        seed = partial(check_whole, ok=lambda v: 0 <= v < 2**32)
        rate = partial(check_number, ok=lambda v: 0 < v <= MAX_LR)
        revival = partial(check_choice, choices=REVIVALS)
        active = partial(check_whole, ok=lambda v: 1 <= v < 2**31)
        one_of = "one of " + ", ".join(KINDS) + ", or an object of saejax.sae.registry"
        chosen = _axis("architecture", architecture, one_of, as_architecture)
        names = tuple(own.name for own in chosen)
        if len(set(names)) < len(names):
            raise ValueError(f"architecture: got the names {names}, allowed: each once")
        by_l1, by_k = (tuple(a.name for a in chosen if a.reads == axis) for axis in ("l1", "k"))
        if k is None and by_k:
            raise ValueError(f"k: got nothing, allowed with {by_k[0]}: whole numbers, 1 or more")
        l1 = PUBLISHED_L1 if l1 is None and by_l1 else l1
        number, whole = "a number, 0 or more, up to 1e18", "a whole number, 1 or more"
        own_l1 = _by_architecture("l1", l1, by_l1, number, penalty)
        own_k = _by_architecture("k", k, by_k, whole, active)
        ways = _by_architecture(
            "resample", resample, names, "one of " + ", ".join(REVIVALS), revival
        )
        rates = _axis("lr", lr, "a number above 0, up to 1e15", rate)
        parts = []
        for own in chosen:
            known = tuple(way for way in ways[own.name] if way in own.revivals)
            if not known:
                raise ValueError(
                    f"resample: got {', '.join(ways[own.name])}, allowed for {own.name}: "
                    f"{', '.join(own.revivals)}"
                )
            ks = own_k.get(own.name, (0,))
            parts.append(Part(own.prepared(ks), own_l1.get(own.name, (0.0,)), ks, rates, known))
        for way in dict.fromkeys(way for own in ways.values() for way in own):
            if not any(way in part.resample for part in parts):
                raise ValueError(
                    f"resample: got {way!r}, allowed for {', '.join(names)}: "
                    + ", ".join(dict.fromkeys(w for own in chosen for w in own.revivals))
                )
        self._set(
            tuple(parts),
            _axis("ratio", ratio, "a number above 0", above_zero),
            _axis("seeds", seeds, "a whole number from 0 to 2**32 - 1", seed),
        )
        _check_apart("l1", self.l1)

    def _set(
        self, parts: tuple[Part, ...], ratio: tuple[float, ...], seeds: tuple[int, ...]
    ) -> None:
        # The numbers of several architectures are mixed: in order of size each has its own in
        # order.
        ordered = sorted if len(parts) > 1 else tuple
        values = {
            "l1": tuple(ordered(_union(part.l1 for part in parts))),
            "ratio": ratio,
            "seeds": seeds,
            "lr": _union(part.lr for part in parts),
            "resample": _union(part.resample for part in parts),
            "architecture": tuple(part.architecture.name for part in parts),
            "k": tuple(ordered(_union(part.k for part in parts))),
            "parts": parts,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def of(self, parts: tuple[Part, ...], seeds: tuple[int, ...]) -> "Sweep":
        """The same widths with other parts and seeds, both checked already."""
        whole = object.__new__(Sweep)
        whole._set(parts, self.ratio, seeds)
        return whole

    def coords(self, datasets: Sequence[str]) -> dict[str, tuple]:
        """Values along every axis, in the order of `AXES`."""
        own = self.seeds, self.ratio, self.l1, self.lr, self.resample, self.architecture, self.k
        return dict(zip(AXES, (tuple(datasets), *own), strict=True))

    def widths(self, base: int, base_name: str = "n_features") -> tuple[int, ...]:
        """d_sae of every ratio.

        Args:
            base: what the ratio multiplies.
            base_name: how an error names it.

        Raises:
            ValueError: when a ratio does not give a whole number of latents.
        """
        widths = []
        for ratio in self.ratio:
            exact = ratio * base
            if abs(exact - round(exact)) > 1e-6 * exact or round(exact) < 1:
                raise ValueError(
                    f"ratio: got {ratio:g}, which makes {exact:g} latents with {base_name}={base}; "
                    f"allowed: ratios for which ratio x {base_name} is a whole number, 1 or more"
                )
            widths.append(round(exact))
        return tuple(widths)


def _by_architecture(
    name: str, values: Any, readers: tuple[str, ...], allowed: str, check: Callable[..., Any]
) -> dict[str, tuple]:
    """The values of an axis for every architecture that reads it."""
    if values is None and name != "resample":
        return {}
    if not readers:
        raise ValueError(
            f"{name}: got {values!r}, allowed: nothing, because no architecture reads it"
        )
    if not isinstance(values, Mapping):
        return dict.fromkeys(readers, _axis(name, values, allowed, check))
    if set(values) != set(readers):
        raise ValueError(
            f"{name}: got values for {', '.join(map(str, values))}, allowed: for "
            f"{', '.join(readers)}"
        )
    return {own: _axis(f"{name} of {own}", values[own], allowed, check) for own in readers}


def _union(axes: Iterable[tuple]) -> tuple:
    """Every value of several axes once, in the order in which they come."""
    return tuple(dict.fromkeys(value for axis in axes for value in axis))
