"""The cells of a sweep on the devices: their weights, Adam's moments and swept numbers.

Cells of one architecture and d_sae form a group, whose arrays carry the leading axes [source,
hyper]: a source is one (dataset, seed), a hyper one value of every traced axis. Nothing is padded,
and every swept number that does not change a shape is an input of the compiled step.

In training state W_dec is held as its transpose [d_in, d_sae]: all products and the Adam update
then read it in the order in which it lies (experiments/docs/pages/notes/speed.md, "Transposed
operands"). `transpose_decoder` undoes that.
"""

from collections import namedtuple
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Integer

from saejax.core.keys import stream
from saejax.results.axes import TRACED
from saejax.sae.params import Params
from saejax.sae.registry import Architecture, ReLU
from saejax.training.settings import Settings
from saejax.training.sweep import Part


class Hyper(namedtuple("Hyper", [axis.name for axis in TRACED])):
    """Swept numbers that the compiled step reads: an array [hyper] for every traced axis.

    So l1, lr, resample (a place in `REVIVALS`) and k.
    """

    __slots__ = ()


class Cells(NamedTuple):
    """Training state of the cells of a width group, leading axes [source, hyper].

    Attributes:
        params: weights, W_dec transposed.
        opt: Adam's moments, likewise.
        frozen_at: the step whose update was refused because it was not finite; -1 while it trains.
        silent: batches since each latent last fired, see `resample.observe`; None where nobody
            asks.
    """

    params: Params
    opt: optax.ScaleByAdamState
    frozen_at: Int[Array, "*cells"]
    silent: Int[Array, "*cells d_sae"] | None


ADAM = optax.scale_by_adam()
RELU = ReLU()


def hypers(part: Part) -> Hyper:
    """The swept numbers of a part, in the order of `Part.hypers`."""
    columns = zip(TRACED, zip(*part.hypers, strict=True), strict=True)
    return Hyper(*(jnp.array(axis.numbers(values)) for axis, values in columns))


def transpose_decoder(params: Any) -> Params:
    """Weights (or moments shaped like them) with W_dec in its public orientation, or back."""
    return params._replace(W_dec=jnp.swapaxes(params.W_dec, -1, -2))


def init_weights(
    seeds: Integer[Array, " seeds"],
    d_in: int,
    d_sae: int,
    settings: Settings,
    architecture: Architecture = RELU,
) -> Params:
    """Fresh weights of each seed, W_dec transposed.

    They depend on (seed, d_in, d_sae) alone, and what an architecture has besides on it.
    """

    def one(seed: Integer[Array, ""]) -> Params:
        key = jax.random.fold_in(stream(seed, "init"), d_sae)
        return transpose_decoder(architecture.init(key, d_in, d_sae, settings.sae))

    return jax.vmap(one)(seeds)


def as_cells(
    weights: Params,
    n_datasets: int,
    n_hyper: int,
    settings: Settings,
    centers: Float[Array, "source d_in"] | None = None,
) -> Cells:
    """Fresh cells of one group, those of a seed with the same weights.

    Args:
        weights: of each seed, from `init_weights`.
        n_datasets: number of data sets.
        n_hyper: number of hypers.
        settings: of the run.
        centers: where every source's b_dec starts; None leaves it as it is in the weights.
    """
    n_seeds, d_in, d_sae = weights.W_enc.shape

    def spread(a: Array) -> Array:
        a = jnp.broadcast_to(a[None, :, None], (n_datasets, n_seeds, n_hyper, *a.shape[1:]))
        return a.reshape(-1, *a.shape[2:])

    params = jax.tree.map(spread, weights)
    n_source = n_datasets * n_seeds
    if centers is not None:
        b_dec = jnp.broadcast_to(centers[:, None], (n_source, n_hyper, d_in))
        params = params._replace(b_dec=b_dec)
    opt = jax.vmap(jax.vmap(ADAM.init))(params)
    assert isinstance(opt, optax.ScaleByAdamState)
    at = (n_source, n_hyper)
    silent = jnp.zeros((*at, d_sae), jnp.int32) if settings.resample.watches else None
    return Cells(params, opt, jnp.full(at, -1, jnp.int32), silent)


def init_cells(
    seeds: Integer[Array, " seeds"],
    n_datasets: int,
    n_hyper: int,
    d_in: int,
    d_sae: int,
    settings: Settings,
    centers: Float[Array, "source d_in"] | None = None,
    architecture: Architecture = RELU,
) -> Cells:
    """Fresh cells of one group: `as_cells` of `init_weights`."""
    weights = init_weights(seeds, d_in, d_sae, settings, architecture)
    return as_cells(weights, n_datasets, n_hyper, settings, centers)


Groups = tuple[Cells, ...]
Hypers = tuple[Hyper, ...]
