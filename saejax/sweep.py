"""Axes of a sweep, and the training of its cells as stacked width groups.

A sweep is the full product of its axes. Cells of one d_sae form a width group, whose arrays carry
the leading axes [source, hyper]: a source is one (dataset, seed), a hyper one (l1, lr, resample).
Nothing is padded, and every swept number that does not change a shape is an input of the compiled
step.

In training state W_dec is held as its transpose [d_in, d_sae]: all products and the Adam update then
read it in the order in which it lies (BUILD_NOTES.md, "Transposed operands"). `public` undoes that.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Integer, Key, PRNGKeyArray

from saejax import ghost, resample, sae
from saejax.checks import as_python, check_choice, check_number, check_whole
from saejax.devices import over
from saejax.mapping import map_cells
from saejax.resample import GHOST, REVIVALS
from saejax.sae import Params
from saejax.settings import Settings

AXES = ("dataset", "seed", "ratio", "l1", "lr", "resample")
PUBLISHED_L1 = tuple(float(f"{10 ** (k / 4):.7g}") for k in range(-8, -2))
PUBLISHED_RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# Adam moves no weight by more than 7.3 lr: with m = (1 - b1) sum_k b1^k g_k and v = (1 - b2) sum_k b2^k
# g_k^2, Cauchy and Schwarz give |m| / sqrt(v) <= (1 - b1) / sqrt((1 - b2) (1 - b1^2 / b2)) = 7.27, and
# the bias corrections only lower it. At this rate a moved row of W_dec has a squared norm of at most
# d_in (1 + 7.3e15)^2, which float32 holds up to d_in = 6e6. Beyond, the projection would divide the row
# by infinity and leave zeros.
MAX_LR = 1e15
# Adam squares every gradient: from 1.8e19 on float32 has no square, and v stays infinite for good.
MAX_GRADIENT = 1e19
# Relative difference up to which two coordinates are taken for the same number.
SAME = 1e-3
STREAMS = ("truth", "batches", "evaluation", "init", "resample")


def _axis(name: str, values: Any, allowed: str, check: Callable[[str, Any, str], Any]) -> tuple:
    values = as_python(values)
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        return (check(name, values, f"{allowed}, or a sequence of such"),)
    if not values:
        raise ValueError(f"{name}: got no value, allowed: at least one, each {allowed}")
    values = tuple(check(name, value, allowed) for value in values)
    if len(set(values)) < len(values):
        raise ValueError(f"{name}: got {values}, allowed: each value once")
    for low, high in pairwise(sorted(values)):
        if isinstance(low, float) and math.isclose(low, high, rel_tol=SAME):
            raise ValueError(
                f"{name}: got {low!r} and {high!r}, allowed: values that differ by more than a "
                f"share of {SAME:g}"
            )
    return values


@dataclass(frozen=True, init=False)
class Sweep:
    """The axes of a sweep besides its data sets.

    An axis is a sequence or one-dimensional array of numbers; one number is an axis of one value.

    Args:
        l1: coefficients of the sparsity term, at most 1e18 so that squared gradients stay finite in
            float32. Default: the published 10^(-8/4) ... 10^(-3/4).
        ratio: d_sae over the number of true features, or over d_in where these are unknown.
            Default: the published eight, 0.25 ... 32.
        seeds: each seed draws its own ground truth, batches and initial weights.
        lr: Adam's learning rates, at most 1e15 so that no moved row of W_dec overflows.
        resample: how dead latents are revived, of "off", "on", "anthropic", "ghost" (see
            `saejax.resample`).

    Cells that differ in data set, l1, lr or resample alone start from the same weights, and cells of
    one seed share their true features, so differences along these axes are paired.

    Raises:
        ValueError: naming the argument, for an axis that is empty, repeats a value or holds one that
            is not allowed.
    """

    l1: tuple[float, ...]
    ratio: tuple[float, ...]
    seeds: tuple[int, ...]
    lr: tuple[float, ...]
    resample: tuple[str, ...]

    def __init__(
        self,
        l1: Sequence[float] | float = PUBLISHED_L1,
        ratio: Sequence[float] | float = PUBLISHED_RATIOS,
        seeds: Sequence[int] | int = (0,),
        lr: Sequence[float] | float = (1e-3,),
        resample: Sequence[str] | str = ("off",),
    ) -> None:
        penalty = partial(check_number, ok=lambda v: 0 <= v <= 1e18)
        above_zero = partial(check_number, ok=lambda v: v > 0)
        seed = partial(check_whole, ok=lambda v: 0 <= v < 2**32)
        rate = partial(check_number, ok=lambda v: 0 < v <= MAX_LR)
        revival = partial(check_choice, choices=REVIVALS)
        for name, values, allowed, check in (
            ("l1", l1, "a number, 0 or more, up to 1e18", penalty),
            ("ratio", ratio, "a number above 0", above_zero),
            ("seeds", seeds, "a whole number from 0 to 2**32 - 1", seed),
            ("lr", lr, "a number above 0, up to 1e15", rate),
            ("resample", resample, "one of " + ", ".join(REVIVALS), revival),
        ):
            object.__setattr__(self, name, _axis(name, values, allowed, check))

    def coords(self, datasets: Sequence[str]) -> dict[str, tuple]:
        """Values along every axis, in the order of `AXES`."""
        values = (tuple(datasets), self.seeds, self.ratio, self.l1, self.lr, self.resample)
        return dict(zip(AXES, values, strict=True))

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


class Hyper(NamedTuple):
    """Swept numbers that the compiled step reads, one a hyper; `resample` is a place in `REVIVALS`."""

    l1: Float[Array, " hyper"]
    lr: Float[Array, " hyper"]
    resample: Int[Array, " hyper"]


class Cells(NamedTuple):
    """Training state of the cells of a width group, leading axes [source, hyper].

    Attributes:
        params: weights, W_dec transposed.
        opt: Adam's moments, likewise.
        frozen_at: the step whose update was refused because it was not finite; -1 while it trains.
        silent: batches since each latent last fired, see `resample.observe`; None where nobody asks.
    """

    params: Params
    opt: optax.ScaleByAdamState
    frozen_at: Int[Array, "*cells"]
    silent: Int[Array, "*cells d_sae"] | None


ADAM = optax.scale_by_adam()


def stream(seed: Integer[Array, ""] | int, name: str) -> PRNGKeyArray:
    """The key of one use of randomness of one seed."""
    return jax.random.fold_in(jax.random.key(seed), STREAMS.index(name))


def hypers(sweep: Sweep) -> Hyper:
    """The product of l1, lr and resample, in the order of `AXES`."""
    ways = [REVIVALS.index(name) for name in sweep.resample]
    grid = [(a, b, c) for a in sweep.l1 for b in sweep.lr for c in ways]
    l1, lr, way = zip(*grid, strict=True)
    return Hyper(jnp.array(l1, jnp.float32), jnp.array(lr, jnp.float32), jnp.array(way, jnp.int32))


def public(params: Any) -> Params:
    """Weights (or moments shaped like them) with W_dec in its public orientation, or back."""
    return params._replace(W_dec=jnp.swapaxes(params.W_dec, -1, -2))


def init_weights(seeds: Integer[Array, " seeds"], d_in: int, d_sae: int, settings: Settings) -> Params:
    """Fresh weights of each seed, W_dec transposed; they depend on (seed, d_in, d_sae) alone."""

    def one(seed: Integer[Array, ""]) -> Params:
        key = jax.random.fold_in(stream(seed, "init"), d_sae)
        return public(sae.init(key, d_in, d_sae, settings.sae))

    return jax.vmap(one)(seeds)


def as_cells(
    weights: Params,
    n_datasets: int,
    n_hyper: int,
    settings: Settings,
    centers: Float[Array, "source d_in"] | None = None,
) -> Cells:
    """Fresh cells of one width group, those of a seed with the same weights.

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
) -> Cells:
    """Fresh cells of one width group: `as_cells` of `init_weights`."""
    weights = init_weights(seeds, d_in, d_sae, settings)
    return as_cells(weights, n_datasets, n_hyper, settings, centers)


def whole_batch(x: Float[Array, "*source batch d_in"], axis: str, at: int = 0) -> Array:
    """A batch from the parts of it that the devices of an axis have; `at` is where its samples lie."""
    return jax.lax.all_gather(x, axis, axis=at, tiled=True)


def step_cell(
    cell: Cells,
    hyper: Hyper,
    x: Float[Array, "batch d_in"],
    step: Int[Array, ""],
    settings: Settings,
    axis: str | None = None,
) -> Cells:
    """One training step of one cell: gradient, Adam, projection; refused where not finite.

    An update counts as not finite when mse is, or the square of any gradient: where these are finite,
    so are Adam's moments and, with lr up to `MAX_LR`, the moved weights. A refused update leaves the
    cell as it was, for good.

    Args:
        cell: the cell.
        hyper: its swept numbers.
        x: the batch, or this device's part of it.
        step: number of steps done.
        settings: of the run.
        axis: of the devices over which the batch is divided, None where one has it all.
    """
    precision = settings.matmul_precision

    def terms(stored: Params) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return sae.mse_and_sparsity(settings.sae, precision, public(stored), x)

    # Only the gradient of the sparsity is asked for, so that its value is never computed.
    (mse, _), pull_back = jax.vjp(terms, cell.params)
    (grads,) = pull_back((jnp.ones(()), hyper.l1))
    mse, grads = over(axis, jax.lax.pmean, (mse, grads))
    if settings.resample.ghost_after:
        # The ghost term is no mean over samples: a part of the batch has no share in it of its own.
        grads = _with_ghosts(grads, cell, hyper, over(axis, whole_batch, x), settings)
    updates, opt = ADAM.update(grads, cell.opt)
    moved = jax.tree.map(lambda p, u: p - hyper.lr * u, cell.params, updates)
    moved = public(sae.project(public(moved), settings.sae))

    # A NaN is below nothing. Each latent's maximum first: the quickest form on a CPU.
    small = [(jnp.abs(g).max(0) <= MAX_GRADIENT).all() for g in jax.tree.leaves(grads)]
    finite = jnp.isfinite(mse) & jnp.stack(small).all()
    go_on = finite & (cell.frozen_at < 0)
    params, opt = jax.tree.map(
        lambda new, old: jnp.where(go_on, new, old), (moved, opt), (cell.params, cell.opt)
    )
    frozen_at = jnp.where(~finite & (cell.frozen_at < 0), step, cell.frozen_at)
    silent = cell.silent
    if silent is not None:
        rule, weights = settings.resample, public(cell.params)
        silent = resample.observe(
            silent, hyper.resample, weights, x, step, settings.sae, rule, precision, axis
        )
    return Cells(params, opt, frozen_at, silent)


def _with_ghosts(
    grads: Any, cell: Cells, hyper: Hyper, x: Float[Array, "batch d_in"], settings: Settings
) -> Any:
    """Gradients (W_dec transposed) with those of dead latents added, where the cell asks for it."""
    assert cell.silent is not None
    dead = (cell.silent >= settings.resample.ghost_after) & (hyper.resample == GHOST)

    def haunted() -> Params:
        more = ghost.ghost_gradient(
            public(cell.params), dead, x, settings.sae, settings.matmul_precision
        )
        return jax.tree.map(jnp.add, grads, public(more))

    return jax.lax.cond(dead.any(), haunted, lambda: grads)


def resample_cell(
    cell: Cells,
    hyper: Hyper,
    x: Float[Array, "batch d_in"],
    key: PRNGKeyArray,
    settings: Settings,
) -> Cells:
    """One cell after its dead latents were revived, where its `resample` is "on" or "anthropic"."""
    assert cell.silent is not None
    asks = (hyper.resample == resample.ON) | (hyper.resample == resample.ANTHROPIC)
    params, opt = resample.revive(
        key,
        public(cell.params),
        cell.opt._replace(mu=public(cell.opt.mu), nu=public(cell.opt.nu)),
        (cell.silent >= settings.resample.window_steps) & asks & (cell.frozen_at < 0),
        x,
        hyper.l1,
        settings.sae,
        settings.resample,
        settings.matmul_precision,
        hyper.resample,
    )
    opt = opt._replace(mu=public(opt.mu), nu=public(opt.nu))
    return cell._replace(params=public(params), opt=opt)


def step_group(
    cells: Cells,
    into: Cells,
    hyper: Hyper,
    x: Float[Array, "source batch d_in"],
    keys: Key[Array, " source"],
    step: Int[Array, ""],
    settings: Settings,
    cell_batch: int,
    axis: str | None = None,
) -> Cells:
    """One training step of a width group, and its resampling where that is due.

    Args:
        cells: the group.
        into: buffers for the result, of the same shapes.
        hyper: swept numbers.
        x: one batch for each source.
        keys: randomness of a resampling, one for each source.
        step: number of steps done before this one.
        settings: of the run.
        cell_batch: see `map_cells`.
        axis: of the devices over which the batches are divided, None where one has them all.
    """

    def train(cell: Cells, hyper: Hyper, x: Float[Array, "batch d_in"]) -> Cells:
        return step_cell(cell, hyper, x, step, settings, axis)

    cells = map_cells(train, cells, hyper, x, cell_batch, into)
    if not settings.resample.every:
        return cells

    def revive(cells: Cells) -> Cells:
        # Samples are drawn from the whole batch.
        whole = over(axis, partial(whole_batch, at=1), x)
        return map_cells(
            lambda cell, hyper, part: resample_cell(cell, hyper, part[0], part[1], settings),
            cells,
            hyper,
            (whole, keys),
            cell_batch,
        )

    # Never after the last step: the final dictionaries would hold latents that were not trained.
    due = settings.resample.is_due(step + 1) & (step + 1 < settings.steps)
    return jax.lax.cond(due, revive, lambda c: c, cells)
