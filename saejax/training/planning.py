"""What a run is going to do: every check of the input, before anything is compiled."""

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from saejax.core.devices import Layout, choose_layout
from saejax.data.source import as_sources
from saejax.metrics.catalogue import LARGER_IS_BETTER
from saejax.metrics.measures import Metric
from saejax.results.axes import AXES
from saejax.training.capacity import check_fits, default_cell_batches
from saejax.training.plan import Plan, seen_shapes
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep


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
        ValueError: for data, ratios or settings that do not fit each other or the device, naming
            the argument, the value got and what is allowed.
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


def _check_metrics(plan: Plan) -> None:
    """Raises ValueError where a user's metric is not one."""
    taken = {*LARGER_IS_BETTER, *AXES, "step", "d_sae", "frozen_at", "best_index", "best_cosine"}
    if not plan.metrics:
        return
    seen = [(group.architecture.name, seen_shapes(plan, group)) for group in plan.groups]
    for name, own in plan.metrics.items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-z]\w*", name) or name in taken:
            raise ValueError(
                f"metrics: got the name {name!r}, allowed: a small letter, then letters, digits "
                f"and _, and none of saejax's own ({', '.join(sorted(taken))})"
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
                    f"metrics: {name!r} returns {out} for the architecture {architecture!r}, "
                    "allowed: one floating-point number, a scalar array"
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
            raise ValueError(
                f"batch_size: got {batch_size}, with which {found}; allowed: {allowed}"
            )
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
