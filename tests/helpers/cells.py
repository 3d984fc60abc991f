"""Cells and batches of single steps."""

import jax
import jax.numpy as jnp
import numpy as np

from helpers.groups import plain_step
from saejax.sae.revival import ANTHROPIC, OFF, ON
from saejax.training.cells import Hyper, init_cells


def fresh(seeds, n_datasets, n_hyper, d_sae, settings):
    """Jitted `init_cells` of width-4 inputs."""
    f = jax.jit(lambda seeds: init_cells(seeds, n_datasets, n_hyper, 4, d_sae, settings))
    return f(jnp.array(seeds, jnp.uint32))


N_SOURCE, N_HYPER, D_IN, D_SAE, BATCH = 2, 3, 5, 8, 9
HYPER = Hyper(
    jnp.array([0.01, 0.1, 1.0]),
    jnp.array([1e-3, 1e-2, 2e-2]),
    jnp.array([ON, OFF, ANTHROPIC]),
    jnp.zeros(3),
)


def start(settings, seeds=(1, 2), dead=(), n_hyper=N_HYPER):
    cells = init_cells(jnp.array(seeds, jnp.uint32), 1, n_hyper, D_IN, D_SAE, settings)
    b_enc = cells.params.b_enc.at[:, :, jnp.array(dead, jnp.int32)].set(-100.0)
    return cells._replace(params=cells.params._replace(b_enc=b_enc))


def batches(n, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, N_SOURCE, BATCH, D_IN))
    return jnp.array(x, jnp.float32)


def source_keys(step):
    return jax.random.split(jax.random.fold_in(jax.random.key(11), step), N_SOURCE)


def group_step(settings, cell_batch):
    return jax.jit(plain_step(settings, cell_batch))


def at(tree, *index):
    return jax.tree.map(lambda a: a[index], tree)


def run(step, cells, hyper, x, first=0):
    """The states after every step, the start included."""
    states = [cells]
    for i in range(len(x)):
        n = first + i
        cells = step(cells, cells, hyper, x[i], source_keys(n), jnp.int32(n))
        states.append(cells)
    return states


def same(a, b):
    """Whether two states hold the same bits (NaN equals NaN)."""
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(u).tobytes() == np.asarray(v).tobytes() for u, v in leaves)
