"""Batches of all sources, drawn on the devices or fed by the host."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer

from saejax.core import devices
from saejax.core.keys import stream
from saejax.data.source import Source
from saejax.training.cells import Hyper
from saejax.training.plan import Program


class Inputs(NamedTuple):
    """What every chunk of a run reads and none changes.

    Attributes:
        arrays: for each data set its shared arrays and those of its seeds, or what the host feeds.
        seeds: the seeds.
        hypers: swept numbers of every part of the sweep.
    """

    arrays: dict
    seeds: Integer[Array, " seeds"]
    hypers: tuple[Hyper, ...]


def draw(
    program: Program, inputs: Inputs, name: str, step: Int[Array, ""], n_batches: int | None = None
) -> Float[Array, "source *n_batches batch d_in"]:
    """Batches of every source, data sets outermost; the same for a (seed, stream, step) always.

    Args:
        program: of the run.
        inputs: of the run.
        name: which stream of randomness, see `saejax.core.keys.STREAMS`.
        step: number of steps done.
        n_batches: how many batches, None for one without an axis of its own.
    """
    batch_size = program.settings.batch_size

    def sample(source: Source, shared: Any, own: Any, key: Array) -> Array:
        return source.sample(shared, own, key, batch_size)

    drawn = _drawn(program.sources, inputs, name, step, n_batches, sample)
    return on_every_device(program, jnp.concatenate(drawn))


def draw_evaluation(
    program: Program, inputs: Inputs, step: Int[Array, ""]
) -> tuple[Array, Array | None]:
    """Evaluation batches, and which true features are in each sample; None where nobody knows.

    Arguments as in `draw`.

    Returns:
        [source, n_batches, batch, d_in] and [source, n_batches, batch, n_features].
    """
    settings, sources = program.settings, program.sources
    known = all(source is not None and source.n_features for source in sources.values())

    def take(source: Source, shared: Any, own: Any, key: Array) -> Any:
        x = source.sample(shared, own, key, settings.batch_size)
        codes = source.codes(shared, own, key, settings.batch_size) if known else None
        return x if codes is None else (x, codes > 0)

    parts = _drawn(sources, inputs, "evaluation", step, settings.eval_batches, take)
    if all(isinstance(part, tuple) for part in parts):
        both = tuple(jnp.concatenate(each) for each in zip(*parts, strict=True))
        return on_every_device(program, both)
    x = jnp.concatenate([p[0] if isinstance(p, tuple) else p for p in parts])
    return on_every_device(program, (x, None))


def _drawn(
    sources: Mapping[str, Source | None],
    inputs: Inputs,
    name: str,
    step: Int[Array, ""],
    n_batches: int | None,
    take: Callable[..., Any],
) -> list[Any]:
    """What `take` makes of every data set: its leading axes are [seed, *n_batches]."""

    def one_seed(source: Source, shared: Any, own: Any, seed: Integer[Array, ""]) -> Any:
        key = jax.random.fold_in(stream(seed, name), step)
        if n_batches is None:
            return take(source, shared, own, key)
        return jax.lax.map(partial(take, source, shared, own), jax.random.split(key, n_batches))

    parts = []
    for dataset, source in sources.items():
        if source is None:
            parts.append(inputs.arrays[dataset].draw(name, step))
            continue
        shared, own = inputs.arrays[dataset]
        parts.append(jax.vmap(partial(one_seed, source, shared))(own, inputs.seeds))
    return parts


def on_every_device(program: Program, x: Any) -> Any:
    """Batches that every device draws whole; what the host feeds lies divided, and stays so."""
    fed = all(source is None for source in program.sources.values())
    return x if fed else devices.everywhere(program.mesh, x)


def features(program: Program, inputs: Inputs) -> Float[Array, "source n d_in"] | None:
    """Ground-truth features of every source, None where they are unknown."""
    parts: list[Any] = []
    for name, source in program.sources.items():
        if source is None or source.n_features is None:
            return None
        parts.append(jax.vmap(source.features)(inputs.arrays[name][1]))
    return jnp.concatenate(parts)
