"""What a run is going to do, checked: the plan that every other module of the training reads."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from saejax.core.devices import Layout, batch_axis, make_mesh
from saejax.core.machine import machine
from saejax.core.program_hash import program
from saejax.data.source import AnySource, Source, traced
from saejax.metrics.measures import Metric, Seen
from saejax.sae.params import Params
from saejax.sae.registry import Architecture, describe
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep


class Group(NamedTuple):
    """What is fixed about the cells of one architecture and one d_sae.

    Attributes:
        architecture: of these cells.
        part: which of the sweep's parts they are, and so which of its hypers they have.
        d_sae: number of latents.
        cell_batch: how many are side by side, see `saejax.training.map_cells.map_cells`.
    """

    architecture: Architecture
    part: int
    d_sae: int
    cell_batch: int


class Local(NamedTuple):
    """What one device has: sources, hypers of every part of the sweep, samples of a batch."""

    source: int
    hypers: tuple[int, ...]
    batch: int


@dataclass(frozen=True)
class Program:
    """What the compiled programs of a run depend on besides the shapes of their arrays.

    Runs with equal keys share their programs. None of a run's numbers is part of it: L1, learning
    rates, seeds and the rows of an array are inputs.

    Attributes:
        key: what is compared.
        sources: each data set's part of the program by name; None for one that the host feeds.
        settings: of the run.
        groups: of the cells.
        mesh: the devices, None for a single one.
        metrics: the user's own, by name.
    """

    key: Any
    sources: Mapping[str, Source | None] = field(compare=False)
    settings: Settings = field(compare=False)
    groups: tuple[Group, ...] = field(compare=False)
    mesh: Mesh | None = field(compare=False)
    metrics: Mapping[str, Metric] = field(compare=False)

    @property
    def axis(self) -> str | None:
        """The axis of devices over which the samples of a batch are divided."""
        return batch_axis(self.mesh)


@dataclass(frozen=True)
class Plan:
    """A checked run.

    Attributes:
        sweep: the axes.
        settings: how to train.
        sources: the data sets by name.
        coords: values along each axis, in the order of `saejax.results.axes.AXES`.
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
        each = product(enumerate(self.sweep.parts), self.d_sae)
        return tuple(
            Group(part.architecture, i, d_sae, cell_batch)
            for ((i, part), d_sae), cell_batch in zip(each, self.cell_batches, strict=True)
        )

    @property
    def mesh(self) -> Mesh | None:
        """The devices, None for a single one."""
        return make_mesh(self.layout)

    @cached_property
    def program(self) -> Program:
        """What its compiled programs depend on."""
        about, parts = self._described, {n: traced(source) for n, source in self.sources.items()}
        # A function may read what has changed since: what it computes is in its description.
        described = json.dumps([about["architectures"], about["metrics"]], sort_keys=True)
        keys = tuple((name, key) for name, (key, _) in parts.items())
        own = tuple(self.metrics.items())
        return Program(
            (keys, self.settings, self.groups, self.mesh, own, described),
            {name: source for name, (_, source) in parts.items()},
            self.settings,
            self.groups,
            self.mesh,
            self.metrics,
        )

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
        return {**self._described}

    @cached_property
    def _described(self) -> dict[str, Any]:
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


def _program(own: Metric, plan: Plan) -> str:
    """What tells a metric from others, whatever the widths and devices of the sweep."""
    group = plan.groups[0]
    try:
        return program(own, seen_shapes(plan, group._replace(d_sae=32), batch=8))
    except Exception:
        # It holds arrays of the cells' own sizes, and so is one for these alone.
        return program(own, seen_shapes(plan, group))


def seen_shapes(plan: Plan, group: Group, batch: int | None = None) -> Seen:
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
