"""One training step of the cells of a group, and the revival of their dead latents."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from saejax.core.devices import over
from saejax.sae import ghost, revival
from saejax.sae.architecture import Scalar
from saejax.sae.params import Params, project
from saejax.sae.registry import Architecture, Loss, Swept
from saejax.sae.revival import AUXK, GHOST, REVIVALS
from saejax.training.cells import ADAM, RELU, Cells, Hyper, transpose_decoder
from saejax.training.map_cells import map_cells
from saejax.training.plan import Group, Program
from saejax.training.settings import Settings

# Adam squares every gradient: from 1.8e19 on float32 has no square, and v stays infinite for good.
MAX_GRADIENT = 1e19


def step_group(
    program: Program,
    group: Group,
    cells: Cells,
    into: Cells,
    hyper: Hyper,
    x: Float[Array, "source batch d_in"],
    keys: Key[Array, " source"],
    step: Int[Array, ""],
) -> Cells:
    """One training step of a group, and its resampling where that is due.

    Args:
        program: of the run.
        group: what is fixed about these cells.
        cells: the group's.
        into: buffers for the result, of the same shapes.
        hyper: swept numbers.
        x: one batch for each source, or this device's part of it.
        keys: randomness of a resampling, one for each source.
        step: number of steps done before this one.
    """
    settings, axis, architecture = program.settings, program.axis, group.architecture

    def train(cell: Cells, hyper: Hyper, x: Float[Array, "batch d_in"]) -> Cells:
        return step_cell(cell, hyper, x, step, settings, axis, architecture)

    cells = map_cells(train, cells, hyper, x, group.cell_batch, into)
    if not settings.resample.every:
        return cells

    def revive(cells: Cells) -> Cells:
        # Samples are drawn from the whole batch.
        whole = over(axis, partial(whole_batch, at=1), x)

        def one(cell: Cells, hyper: Hyper, of_source: tuple) -> Cells:
            x, key = of_source
            return resample_cell(cell, hyper, x, key, settings, architecture)

        return map_cells(one, cells, hyper, (whole, keys), group.cell_batch)

    # Never after the last step: the final dictionaries would hold latents that were not trained.
    due = settings.resample.is_due(step + 1) & (step + 1 < settings.steps)
    return jax.lax.cond(due, revive, lambda c: c, cells)


def step_cell(
    cell: Cells,
    hyper: Hyper,
    x: Float[Array, "batch d_in"],
    step: Int[Array, ""],
    settings: Settings,
    axis: str | None = None,
    architecture: Architecture = RELU,
) -> Cells:
    """One training step of one cell: gradient, Adam, projection; refused where not finite.

    An update counts as not finite when mse is, or the square of any gradient: where these are
    finite, so are Adam's moments and, with lr up to `MAX_LR`, the moved weights. A refused update
    leaves the cell as it was, for good.

    Args:
        cell: the cell.
        hyper: its swept numbers.
        x: the batch, or this device's part of it.
        step: number of steps done.
        settings: of the run.
        axis: of the devices over which the batch is divided, None where one has it all.
        architecture: of the cell.
    """
    precision, swept = settings.matmul_precision, Swept(hyper.l1, hyper.k)

    def lowered(stored: Params) -> tuple[Scalar, Loss]:
        params = transpose_decoder(stored)
        loss = architecture.lowered(params, x, swept, settings.sae, precision, axis)
        return loss.total, loss

    # The value of what is lowered is not read, so that the compiler leaves out what only it needs.
    grads, loss = jax.grad(lowered, has_aux=True)(cell.params)
    if settings.resample.aux_after and REVIVALS[AUXK] in architecture.revivals:
        grads = _with_aux(grads, cell, hyper, x, settings, axis, architecture)
    mse, grads = over(axis, jax.lax.pmean, (loss.mse, grads))
    if settings.resample.ghost_after and REVIVALS[GHOST] in architecture.revivals:
        # The ghost term is no mean over samples: a part of the batch has no share in it of its own.
        grads = _with_ghosts(grads, cell, hyper, over(axis, whole_batch, x), settings)
    updates, opt = ADAM.update(grads, cell.opt)
    moved = jax.tree.map(lambda p, u: p - hyper.lr * u, cell.params, updates)
    projected = project(transpose_decoder(moved), settings.sae)
    moved = transpose_decoder(architecture.settle(projected, loss, axis))

    # A NaN is below nothing. Each latent's maximum first: the quickest form on a CPU.
    small = [
        (jnp.abs(jnp.atleast_1d(g)).max(0) <= MAX_GRADIENT).all() for g in jax.tree.leaves(grads)
    ]
    finite = jnp.isfinite(mse) & jnp.stack(small).all()
    go_on = finite & (cell.frozen_at < 0)
    params, opt = jax.tree.map(
        lambda new, old: jnp.where(go_on, new, old), (moved, opt), (cell.params, cell.opt)
    )
    frozen_at = jnp.where(~finite & (cell.frozen_at < 0), step, cell.frozen_at)
    silent = cell.silent
    if silent is not None:
        rule, weights = settings.resample, transpose_decoder(cell.params)
        silent = revival.observe(
            silent,
            hyper.resample,
            weights,
            x,
            step,
            settings.sae,
            rule,
            precision,
            axis,
            loss.highest,
        )
    return Cells(params, opt, frozen_at, silent)


def _with_aux(
    grads: Any,
    cell: Cells,
    hyper: Hyper,
    x: Float[Array, "batch d_in"],
    settings: Settings,
    axis: str | None,
    architecture: Architecture,
) -> Any:
    """Gradients (W_dec transposed) with those of the auxiliary loss, where the cell asks for it."""
    assert cell.silent is not None
    dead = (cell.silent >= settings.resample.aux_after) & (hyper.resample == AUXK)

    def helped() -> Params:
        more = architecture.dead_gradient(
            transpose_decoder(cell.params),
            dead,
            x,
            Swept(hyper.l1, hyper.k),
            settings.sae,
            settings.matmul_precision,
            axis,
        )
        return jax.tree.map(jnp.add, grads, transpose_decoder(more))

    return jax.lax.cond(dead.any(), helped, lambda: grads)


def _with_ghosts(
    grads: Any, cell: Cells, hyper: Hyper, x: Float[Array, "batch d_in"], settings: Settings
) -> Any:
    """Gradients (W_dec transposed) with those of dead latents added, where the cell asks for it."""
    assert cell.silent is not None
    dead = (cell.silent >= settings.resample.ghost_after) & (hyper.resample == GHOST)

    def haunted() -> Params:
        more = ghost.ghost_gradient(
            transpose_decoder(cell.params), dead, x, settings.sae, settings.matmul_precision
        )
        return jax.tree.map(jnp.add, grads, transpose_decoder(more))

    return jax.lax.cond(dead.any(), haunted, lambda: grads)


def resample_cell(
    cell: Cells,
    hyper: Hyper,
    x: Float[Array, "batch d_in"],
    key: PRNGKeyArray,
    settings: Settings,
    architecture: Architecture = RELU,
) -> Cells:
    """One cell after its dead latents were revived, where its `resample` is "on" or "anthropic"."""
    assert cell.silent is not None
    asks = (hyper.resample == revival.ON) | (hyper.resample == revival.ANTHROPIC)
    params, opt = revival.revive(
        key,
        transpose_decoder(cell.params),
        cell.opt._replace(mu=transpose_decoder(cell.opt.mu), nu=transpose_decoder(cell.opt.nu)),
        (cell.silent >= settings.resample.window_steps) & asks & (cell.frozen_at < 0),
        x,
        hyper.l1,
        settings.sae,
        settings.resample,
        settings.matmul_precision,
        hyper.resample,
        architecture,
        hyper.k,
    )
    opt = opt._replace(mu=transpose_decoder(opt.mu), nu=transpose_decoder(opt.nu))
    return cell._replace(params=transpose_decoder(params), opt=opt)


def whole_batch(x: Float[Array, "*source batch d_in"], axis: str, at: int = 0) -> Array:
    """A batch from the parts of it that the devices of an axis have; `at` is where its samples
    lie."""
    return jax.lax.all_gather(x, axis, axis=at, tiled=True)
