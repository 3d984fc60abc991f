"""Synthetic data drawn and described for tests."""

import functools

import jax
import numpy as np

from saejax.data.synthetic import recipe
from saejax.data.synthetic.hierarchy import Hierarchy
from saejax.data.synthetic.magnitudes import Magnitudes
from saejax.data.synthetic.orthogonal import Orthogonal
from saejax.data.synthetic.recipe import Synthetic
from saejax.data.synthetic.zipf import Zipf

N = 100_000
KEY, BATCH_KEY = jax.random.key(3), jax.random.key(5)
SMALL = {
    "d_in": 4,
    "n_features": 6,
    "avg_active": 2.0,
    "feature_decay": 0.8,
    "copula_rank": 2,
    "copula_strength": 0.8,
}
FEW = {
    "zipf": Zipf(p_max=0.5, p_min=0.1),
    "hierarchy": Hierarchy(roots=1, branching=2, depth=1),
    "magnitudes": Magnitudes(first=3.0, last=2.0),
    "orthogonal": Orthogonal(steps=3, lr=0.01),
    "bias_norm": 0.7,
}
RICH = Synthetic("copula", d_in=4, n_features=6, copula_rank=2, copula_strength=0.8, **FEW)
# Compiling is most of the time of these tests, and fast code gains nothing here.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
truth = jit(recipe.truth, static_argnums=0)
codes = jit(recipe.codes, static_argnums=(0, 3))


@functools.cache
def draw(spec):
    t = truth(spec, KEY)
    return t, np.asarray(codes(spec, t, BATCH_KEY, N))


def closed_form(spec):
    weights = spec.feature_decay ** np.arange(spec.n_features)
    return spec.avg_active * weights / weights.sum()
