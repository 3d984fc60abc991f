"""Batches of all sources, drawn on the devices or fed by the host."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Integer

from saejax.core import devices
from saejax.core.keys import stream
from saejax.data.host import HostSource
from saejax.data.source import AnySource, Source
from saejax.training.settings import Settings


def draw(
    sources: Mapping[str, AnySource],
    arrays: dict,
    seeds: Integer[Array, " seeds"],
    name: str,
    step: Int[Array, ""],
    batch_size: int,
    n_batches: int | None = None,
) -> Float[Array, "source *n_batches batch d_in"]:
    """Batches of every source, data sets outermost; the same for a (seed, stream, step) always.

    Args:
        sources: the data sets.
        arrays: for each its `shared` arrays and those of its seeds, or what the host feeds it.
        seeds: the seeds.
        name: which stream of randomness, see `saejax.core.keys.STREAMS`.
        step: number of steps done.
        batch_size: samples in a batch.
        n_batches: how many batches, None for one without an axis of its own.
    """

    def sample(source: Source, shared: Any, own: Any, key: Array) -> Array:
        return source.sample(shared, own, key, batch_size)

    return jnp.concatenate(_drawn(sources, arrays, seeds, name, step, n_batches, sample))


def _drawn(
    sources: Mapping[str, AnySource],
    arrays: dict,
    seeds: Integer[Array, " seeds"],
    name: str,
    step: Int[Array, ""],
    n_batches: int | None,
    take: Callable[..., Any],
) -> list[Any]:
    """What `take` makes of (source, shared, own, key) for every data set, [seed, *n_batches,
    ...]."""

    def one_seed(source: Source, shared: Any, own: Any, seed: Integer[Array, ""]) -> Any:
        key = jax.random.fold_in(stream(seed, name), step)
        if n_batches is None:
            return take(source, shared, own, key)
        return jax.lax.map(partial(take, source, shared, own), jax.random.split(key, n_batches))

    parts = []
    for dataset, source in sources.items():
        if isinstance(source, HostSource):
            parts.append(arrays[dataset].draw(name, step))
            continue
        shared, own = arrays[dataset]
        parts.append(jax.vmap(partial(one_seed, source, shared))(own, seeds))
    return parts


def draw_evaluation(
    sources: Mapping[str, AnySource],
    arrays: dict,
    seeds: Integer[Array, " seeds"],
    step: Int[Array, ""],
    settings: Settings,
) -> tuple[Array, Array | None]:
    """Evaluation batches, and which true features are in each sample; None where nobody knows.

    Arguments as in `draw`.

    Returns:
        [source, n_batches, batch, d_in] and [source, n_batches, batch, n_features].
    """
    known = all(not isinstance(s, HostSource) and s.n_features for s in sources.values())

    def take(source: Source, shared: Any, own: Any, key: Array) -> Any:
        x = source.sample(shared, own, key, settings.batch_size)
        codes = source.codes(shared, own, key, settings.batch_size) if known else None
        return x if codes is None else (x, codes > 0)

    parts = _drawn(sources, arrays, seeds, "evaluation", step, settings.eval_batches, take)
    if not all(isinstance(part, tuple) for part in parts):
        return jnp.concatenate([p[0] if isinstance(p, tuple) else p for p in parts]), None
    return tuple(jnp.concatenate(both) for both in zip(*parts, strict=True))  # pyright: ignore


def on_every_device(sources: Mapping[str, AnySource], mesh: Mesh | None, x: Any) -> Any:
    """Batches that every device draws whole; what the host feeds lies divided, and stays so."""
    fed = all(isinstance(source, HostSource) for source in sources.values())
    return x if fed else devices.everywhere(mesh, x)


def features(
    sources: Mapping[str, AnySource], arrays: dict
) -> Float[Array, "source n d_in"] | None:
    """Ground-truth features of every source, None where they are unknown."""
    if any(source.n_features is None for source in sources.values()):
        return None
    traced = {name: s for name, s in sources.items() if not isinstance(s, HostSource)}
    parts: list[Any] = [jax.vmap(s.features)(arrays[name][1]) for name, s in traced.items()]
    return jnp.concatenate(parts)
