"""What a run is going to do: every check of the input, before anything is compiled."""

import math
import os
import platform
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from saejax._version import __version__
from saejax.architectures import describe
from saejax.chunk import Group, Local
from saejax.data.source import AnySource, as_sources
from saejax.devices import Layout, choose_layout, make_mesh
from saejax.fits import check_fits, default_cell_batches
from saejax.identity import program
from saejax.metrics import LARGER_IS_BETTER, Metric, Seen
from saejax.sae import Params
from saejax.settings import Settings
from saejax.sweep import AXES, Sweep


@dataclass(frozen=True)
class Plan:
    """A checked run.

    Attributes:
        sweep: the axes.
        settings: how to train.
        sources: the data sets by name.
        coords: values along each axis, in the order of `saejax.sweep.AXES`.
        d_sae: width at each ratio.
        layout: how the cells are spread over devices.
        cell_batches: for each group, how many cells a device trains side by side.
        metrics: the user's own, by name.
    """

    sweep: Sweep
    settings: Settings
    sources: Mapping[str, AnySource]
    coords: dict[str, tuple]
    d_sae: tuple[int, ...]
    layout: Layout
    cell_batches: tuple[int, ...]
    metrics: Mapping[str, Metric] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[Group, ...]:
        """What is fixed about each group; those of one architecture follow one another."""
        kinds = product(enumerate(self.sweep.parts), self.d_sae)
        return tuple(
            Group(part.architecture, i, d_sae, k)
            for ((i, part), d_sae), k in zip(kinds, self.cell_batches, strict=True)
        )

    @property
    def mesh(self) -> Mesh | None:
        """The devices, None for a single one."""
        return make_mesh(self.layout)

    @property
    def local(self) -> Local:
        """Sources, hypers of every part and samples of a batch that one device has."""
        source, hyper, batch = self.layout
        hypers = tuple(n // hyper for n in self.n_hypers)
        return Local(self.n_source // source, hypers, self.settings.batch_size // batch)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        return tuple(len(values) for values in self.coords.values())

    @property
    def n_source(self) -> int:
        """Number of (data set, seed) pairs."""
        return self.shape[0] * self.shape[1]

    @property
    def n_hypers(self) -> tuple[int, ...]:
        """Number of (l1, k, lr, resample) of every part of the sweep."""
        return tuple(len(part.hypers) for part in self.sweep.parts)

    @property
    def n_cells(self) -> int:
        """Number of SAEs."""
        return self.n_source * sum(self.n_hypers) * len(self.d_sae)

    @property
    def source(self) -> AnySource:
        """Any of the sources; all have the same d_in and n_features."""
        return next(iter(self.sources.values()))

    @property
    def flops_per_step(self) -> int:
        """Useful work of a step: 10 batch_size d_in d_sae for each cell, five matrix products."""
        per_latent = 10 * self.settings.batch_size * self.source.d_in
        return per_latent * sum(self.d_sae) * self.n_source * sum(self.n_hypers)

    def describe(self) -> dict[str, Any]:
        """All of it, and the machine, in JSON types."""
        return {
            "coords": {name: list(values) for name, values in self.coords.items()},
            "d_sae": list(self.d_sae),
            "n_cells": self.n_cells,
            "d_in": self.source.d_in,
            "n_features": self.source.n_features,
            "settings": asdict(self.settings),
            "architectures": {
                p.architecture.name: describe(p.architecture, self.source.d_in)
                for p in self.sweep.parts
            },
            "metrics": {name: _program(own, self) for name, own in self.metrics.items()},
            "cell_batch": list(self.cell_batches),
            "layout": self.layout._asdict(),
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


def make_plan(
    sweep: Sweep, data: Any, settings: Settings, metrics: Mapping[str, Metric] | None = None
) -> Plan:
    """Checks a run and fixes what follows from its arguments.

    Args:
        sweep: the axes.
        data: as `saejax.train` takes it.
        settings: how to train.
        metrics: the user's own, by name.

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
    n_source = len(sources) * len(coords["seed"])
    for part in sweep.parts:
        if max(part.k) > min(widths):
            raise ValueError(
                f"k: got {max(part.k)}, allowed: up to {min(widths)}, the latents of the sweep's "
                "smallest dictionary"
            )
    # What is dealt to devices must come out even in every part.
    n_hyper = math.gcd(*(len(part.hypers) for part in sweep.parts))
    layout = _layout(n_source, n_hyper, settings.batch_size)
    chosen = (settings.cell_batch or 1,) * (len(sweep.parts) * len(widths))
    own = dict(metrics or {})
    plan = Plan(sweep, settings, sources, coords, widths, layout, chosen, own)
    _check_metrics(plan)
    if settings.cell_batch is None:
        plan = replace(plan, cell_batches=default_cell_batches(plan))
    check_fits(plan)
    return plan


def _program(own: Metric, plan: Plan) -> str:
    """What tells a metric from others, whatever the widths and devices of the sweep."""
    group = plan.groups[0]
    try:
        return program(own, _seen(plan, group._replace(d_sae=32), batch=8))
    except Exception:
        # It holds arrays of the cells' own sizes, and so is one for these alone.
        return program(own, _seen(plan, group))


def _seen(plan: Plan, group: Group, batch: int | None = None) -> Seen:
    """The shapes that a user's metric is going to see of the SAEs of a group."""
    d_in, d_sae = plan.source.d_in, group.d_sae
    batch = batch or plan.local.batch

    def like(*shape: int, dtype: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    key = jax.eval_shape(lambda: jax.random.key(0))
    own, sae = group.architecture, plan.settings.sae
    params: Params = jax.eval_shape(lambda k: own.init(k, d_in, d_sae, sae), key)
    n = plan.source.n_features
    features = like(n, d_in) if n else None
    active = like(batch, n, dtype=jnp.bool_) if n else None
    return Seen(params, like(batch, d_in), like(batch, d_sae), like(batch, d_in), features, active)


def _check_metrics(plan: Plan) -> None:
    """Raises ValueError where a user's metric is not one."""
    taken = {*LARGER_IS_BETTER, *AXES, "step", "d_sae", "frozen_at", "best_index", "best_cosine"}
    if not plan.metrics:
        return
    seen = [(group.architecture.name, _seen(plan, group)) for group in plan.groups]
    for name, own in plan.metrics.items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-z]\w*", name) or name in taken:
            raise ValueError(
                f"metrics: got the name {name!r}, allowed: a small letter, then letters, digits and _, "
                f"and none of saejax's own ({', '.join(sorted(taken))})"
            )
        for architecture, shapes in seen:
            try:
                out = jax.eval_shape(own, shapes)
            except Exception as error:
                raise ValueError(
                    f"metrics: {name!r} fails for the architecture {architecture!r}: {error}"
                ) from error
            if getattr(out, "shape", None) != () or not jnp.issubdtype(out.dtype, jnp.floating):
                raise ValueError(
                    f"metrics: {name!r} returns {out} for the architecture {architecture!r}, allowed: "
                    "one floating-point number, a scalar array"
                )


def _layout(n_source: int, n_hyper: int, batch_size: int) -> Layout:
    n_devices = len(jax.devices())
    if jax.process_count() == 1 and jax.default_backend() == "cpu":
        # Devices of one CPU are its cores and share their threads: one that has no cells helps the
        # others, and dividing batches would gain nothing.
        return choose_layout(n_devices, n_source, n_hyper, batch_size=1)
    layout = choose_layout(n_devices, n_source, n_hyper, batch_size)
    if layout.n_devices < n_devices:
        found = f"{layout.n_devices} of {n_devices} devices can share the cells and batches"
        allowed = f"a multiple of {n_devices}, or another number of seeds, data sets or L1"
        if jax.process_count() > 1:
            raise ValueError(f"batch_size: got {batch_size}, with which {found}; allowed: {allowed}")
        warnings.warn(f"batch_size {batch_size}: {found}; all would with {allowed}", stacklevel=3)
    return layout


def _check(sweep: Sweep, settings: Settings) -> None:
    rule = settings.resample
    for flag, value, ways in (
        ("resample_every", rule.every, ("on", "anthropic")),
        ("ghost_after", rule.ghost_after, ("ghost",)),
        ("aux_after", rule.aux_after, ("auxk",)),
    ):
        asks = [way for way in ways if way in sweep.resample]
        if asks and not value:
            raise ValueError(f"resample: got {asks[0]!r}, allowed: only with {flag} above 0")
        if value and not asks:
            raise ValueError(
                f"{flag}: got {value}, allowed: 0, because no cell of the sweep has resample "
                + " or ".join(map(repr, ways))
            )
