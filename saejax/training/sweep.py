"""A sweep: the values along its axes, and which of them each architecture takes.

A sweep is the product of its axes, where an architecture takes of l1, k and resample what it knows:
a part of the sweep for each architecture. What an axis is stands in `saejax.results.axes`.
"""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from saejax.results.axes import BY_NAME, SPARSITY, TABLE, TRACED, Axis, check_apart
from saejax.sae.registry import Architecture

PUBLISHED_L1 = tuple(float(f"{10 ** (k / 4):.7g}") for k in range(-8, -2))
PUBLISHED_RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class Part(namedtuple("Part", ["architecture", *(axis.name for axis in TRACED)])):
    """The cells of one architecture: its values along every traced axis, in the order of `AXES`.

    They are the product of these, and of data sets, seeds and ratios.
    """

    __slots__ = ()

    @property
    def hypers(self) -> list[tuple]:
        """Every combination of traced values, as a group's axis hyper has them."""
        return list(product(*self[1:]))


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
        others: traced axes besides these (`saejax.results.axes.TABLE`).

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
        **others: Any,
    ) -> None:
        given = {"l1": l1, "lr": lr, "resample": resample, "k": k}
        later = {axis.name: axis.before for axis in TRACED if axis.name not in given}
        for name in others.keys() - later.keys():
            raise TypeError(f"Sweep.__init__() got an unexpected keyword argument {name!r}")
        given |= later | others
        chosen = BY_NAME["architecture"].values(architecture)
        names = tuple(own.name for own in chosen)
        if len(set(names)) < len(names):
            raise ValueError(f"architecture: got the names {names}, allowed: each once")
        reader = {own.reads: own.name for own in reversed(chosen)}
        if k is None and "k" in reader:
            raise ValueError(
                f"k: got nothing, allowed with {reader['k']}: whole numbers, 1 or more"
            )
        if l1 is None and "l1" in reader:
            given["l1"] = PUBLISHED_L1
        values = {axis.name: _by_architecture(axis, given[axis.name], chosen) for axis in TRACED}
        asked, known = values["resample"], {}
        for own in chosen:
            known[own.name] = tuple(way for way in asked[own.name] if way in own.revivals)
            if not known[own.name]:
                raise ValueError(
                    f"resample: got {', '.join(asked[own.name])}, allowed for {own.name}: "
                    f"{', '.join(own.revivals)}"
                )
        for way in dict.fromkeys(way for ways in asked.values() for way in ways):
            if not any(way in ways for ways in known.values()):
                raise ValueError(
                    f"resample: got {way!r}, allowed for {', '.join(names)}: "
                    + ", ".join(dict.fromkeys(w for own in chosen for w in own.revivals))
                )
        values["resample"] = known
        parts = tuple(
            Part(
                own.prepared(values["k"][own.name]),
                *(values[axis.name][own.name] for axis in TRACED),
            )
            for own in chosen
        )
        self._set(parts, BY_NAME["ratio"].values(ratio), BY_NAME["seed"].values(seeds))
        check_apart("l1", self.l1)

    def _set(
        self, parts: tuple[Part, ...], ratio: tuple[float, ...], seeds: tuple[int, ...]
    ) -> None:
        names = tuple(part.architecture.name for part in parts)
        values = {"ratio": ratio, "seeds": seeds, "architecture": names, "parts": parts}
        for axis in TRACED:
            union = dict.fromkeys(v for part in parts for v in getattr(part, axis.name))
            # The numbers of several architectures are mixed: in order of size each has its own in
            # order.
            mixed = len(parts) > 1 and axis.name in SPARSITY
            values[axis.name] = tuple(sorted(union) if mixed else union)
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def of(self, parts: tuple[Part, ...], seeds: tuple[int, ...]) -> "Sweep":
        """The same widths with other parts and seeds, both checked already."""
        whole = object.__new__(Sweep)
        whole._set(parts, self.ratio, seeds)
        return whole

    def coords(self, datasets: Sequence[str]) -> dict[str, tuple]:
        """Values along every axis, in the order of `AXES`."""
        own = vars(self) | {"dataset": tuple(datasets)}
        return {axis.name: own[axis.argument] for axis in TABLE}

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


def _by_architecture(axis: Axis, values: Any, chosen: Sequence[Architecture]) -> dict[str, tuple]:
    """The values of an axis for every architecture, by its name."""
    name, every = axis.name, axis.unread is None
    readers = tuple(own.name for own in chosen if every or own.reads == name)
    unread = {own.name: (axis.unread,) for own in chosen if own.name not in readers}
    if values is None and not every:
        return unread
    if not readers:
        raise ValueError(
            f"{name}: got {values!r}, allowed: nothing, because no architecture reads it"
        )
    if not (axis.by_architecture and isinstance(values, Mapping)):
        return unread | dict.fromkeys(readers, axis.values(values))
    if set(values) != set(readers):
        raise ValueError(
            f"{name}: got values for {', '.join(map(str, values))}, allowed: for "
            f"{', '.join(readers)}"
        )
    return unread | {own: axis.values(values[own], f"{name} of {own}") for own in readers}
