"""Data and settings of tiny runs."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np

from saejax import Resample, Settings, Sweep, Synthetic, train
from saejax.core.keys import STREAMS

D_IN, N_FEATURES, BATCH, EVAL_BATCHES, THRESHOLD = 6, 8, 16, 2, 0.7
SPEC = Synthetic("uncorrelated", d_in=D_IN, n_features=N_FEATURES, avg_active=2.0)
SETTINGS = Settings(
    steps=8,
    batch_size=BATCH,
    eval_every=4,
    eval_batches=EVAL_BATCHES,
    resample=Resample(every=4, window=2),
    track_threshold=THRESHOLD,
)
PLAIN = replace(SETTINGS, resample=Resample())
EVERY_WAY = replace(SETTINGS, resample=Resample(every=4, window=2, ghost_after=2))


def quiet(*args, **kwargs):
    return train(*args, **kwargs, progress=False)


def key_of(seed, stream, *numbers):
    key = jax.random.fold_in(jax.random.key(np.uint32(seed)), STREAMS.index(stream))
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def cells_of(result):
    """Position and coordinates of every cell."""
    for index in np.ndindex(*(len(v) for v in result.coords.values())):
        yield index, {k: v[i] for (k, v), i in zip(result.coords.items(), index, strict=True)}


def assert_close(a, b, rtol=1e-4, atol=1e-5):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=atol), a, b)


ROWS = np.random.default_rng(5).normal(size=(40, D_IN))
TWO_L1 = Sweep(l1=(0.01, 0.1), ratio=(1, 0.5))


def batch_of(key):
    return jax.random.normal(key, (BATCH, D_IN)) ** 3
