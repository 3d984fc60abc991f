"""What a run is going to do: every check of the input, before anything is compiled."""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import jax
import numpy as np

from saejax._version import __version__
from saejax.data.source import AnySource, as_sources
from saejax.settings import Settings
from saejax.sweep import Sweep


@dataclass(frozen=True)
class Plan:
    """A checked run.

    Attributes:
        sweep: the axes.
        settings: how to train.
        sources: the data sets by name.
        coords: values along each axis, in the order of `saejax.sweep.AXES`.
        d_sae: width at each ratio.
        cell_batches: for each width group, how many cells are trained side by side.
    """

    sweep: Sweep
    settings: Settings
    sources: Mapping[str, AnySource]
    coords: dict[str, tuple]
    d_sae: tuple[int, ...]
    cell_batches: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        return tuple(len(values) for values in self.coords.values())

    @property
    def n_source(self) -> int:
        """Number of (data set, seed) pairs."""
        return self.shape[0] * self.shape[1]

    @property
    def n_hyper(self) -> int:
        """Number of (l1, lr, resample) triples."""
        return int(np.prod(self.shape[3:]))

    @property
    def source(self) -> AnySource:
        """Any of the sources; all have the same d_in and n_features."""
        return next(iter(self.sources.values()))

    @property
    def flops_per_step(self) -> int:
        """Useful work of a step: 10 batch_size d_in d_sae for each cell, five matrix products."""
        per_latent = 10 * self.settings.batch_size * self.source.d_in
        return per_latent * sum(self.d_sae) * self.n_source * self.n_hyper

    def describe(self) -> dict[str, Any]:
        """All of it, and the machine, in JSON types."""
        return {
            "coords": {name: list(values) for name, values in self.coords.items()},
            "d_sae": list(self.d_sae),
            "d_in": self.source.d_in,
            "n_features": self.source.n_features,
            "settings": asdict(self.settings),
            "cell_batch": list(self.cell_batches),
            "data": {name: source.describe() for name, source in self.sources.items()},
            "flops_per_step": self.flops_per_step,
            **machine(),
        }


def machine(*packages: str) -> dict[str, Any]:
    """What a run is made on: device and versions, those of further packages among them."""
    device = jax.local_devices()[0]
    return {
        "device": f"{device.device_kind} ({platform.machine()}, {os.cpu_count()} cores)",
        "versions": {
            "saejax": __version__,
            **{name: metadata.version(name) for name in ("jax", "numpy", *packages)},
        },
    }


def make_plan(sweep: Sweep, data: Any, settings: Settings) -> Plan:
    """Checks a run and fixes what follows from its arguments.

    Args:
        sweep: the axes.
        data: as `saejax.train` takes it.
        settings: how to train.

    Raises:
        ValueError: for data, ratios or settings that do not fit each other or the device, naming the
            argument, the value got and what is allowed.
        TypeError: for data of no known kind.
    """
    _check(sweep, settings)
    sources = as_sources(data, settings.batch_size)
    first = next(iter(sources.values()))
    base = ("n_features", first.n_features) if first.n_features else ("d_in", first.d_in)
    widths = sweep.widths(base[1], base[0])
    coords = sweep.coords(tuple(sources))
    n_cells = len(sources) * int(np.prod([len(coords[a]) for a in ("seed", "l1", "lr", "resample")]))
    cell_batches = tuple(
        settings.cell_batch or default_cell_batch(n_cells, first.d_in, d_sae, settings.batch_size)
        for d_sae in widths
    )
    return Plan(sweep, settings, sources, coords, widths, cell_batches)


def default_cell_batch(n_cells: int, d_in: int, d_sae: int, batch_size: int) -> int:
    """Cells of a width group that train side by side: 1 on a CPU, else as many as fit.

    A cell in flight holds about four float32 arrays [batch, d_sae] and six [d_in, d_sae]; half of the
    device's memory is left for them.
    """
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return 1
    memory = (device.memory_stats() or {}).get("bytes_limit", 8 * 2**30)
    per_cell = 4 * d_sae * (4 * batch_size + 6 * d_in)
    return max(1, min(n_cells, int(memory / 2 / per_cell)))


def _check(sweep: Sweep, settings: Settings) -> None:
    rule = settings.resample
    for flag, value, ways in (
        ("resample_every", rule.every, ("on", "anthropic")),
        ("ghost_after", rule.ghost_after, ("ghost",)),
    ):
        asks = [way for way in ways if way in sweep.resample]
        if asks and not value:
            raise ValueError(f"resample: got {asks[0]!r}, allowed: only with {flag} above 0")
        if value and not asks:
            raise ValueError(
                f"{flag}: got {value}, allowed: 0, because no cell of the sweep has resample "
                + " or ".join(map(repr, ways))
            )
    if settings.matmul_precision == "tf32" and jax.local_devices()[0].platform == "cpu":
        raise ValueError(
            "matmul_precision: got 'tf32', which a CPU does not have; allowed there: highest, bf16"
        )
