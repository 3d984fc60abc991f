"""One tiny SAE of each architecture, and its activations by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from saejax import SAEConfig
from saejax.sae.params import Params
from saejax.sae.registry import KINDS, Swept

D_IN, D_SAE, BATCH, K = 6, 10, 16, 3
CONFIG = SAEConfig(use_b_dec=True)
X = jax.random.normal(jax.random.key(9), (BATCH, D_IN))


def swept(kind, l1=0.1):
    own = KINDS[kind].reads
    return Swept(jnp.float32(l1 if own == "l1" else 0), jnp.float32(K if own == "k" else 0))


def weights(kind, seed=0):
    """Weights in which every part matters."""
    params = KINDS[kind]().init(jax.random.key(seed), D_IN, D_SAE, CONFIG)
    keys = iter(jax.random.split(jax.random.key(seed + 100), 8))
    noise = [None if a is None else 0.3 * jax.random.normal(next(keys), a.shape) for a in params]
    moved = Params(*(a if a is None else a + n for a, n in zip(params, noise, strict=True)))
    if moved.log_threshold is not None:
        moved = moved._replace(log_threshold=jnp.log(0.2) + noise[5])
    return moved if moved.threshold is None else moved._replace(threshold=jnp.float32(0.4))


def by_hand(kind, params, x, k=K):
    """Activations of a trained SAE in NumPy and float64."""
    p = {name: np.float64(a) for name, a in params._asdict().items() if a is not None}
    x = np.float64(x) - p["b_dec"]
    pre = x @ p["W_enc"] + p["b_enc"]
    h = np.maximum(pre, 0)
    if kind == "topk":
        order = np.argsort(-h, axis=1)
        out = np.zeros_like(h)
        for row, places in enumerate(order):
            out[row, places[:k]] = h[row, places[:k]]
        return out
    if kind in ("batchtopk", "matryoshka"):
        return np.where(h > p["threshold"], h, 0)
    if kind == "jumprelu":
        return np.where(pre > np.exp(p["log_threshold"]), pre, 0)
    if kind == "gated":
        mag = x @ (p["W_enc"] * np.exp(p["r_mag"])) + p["b_mag"]
        return np.where(pre > 0, np.maximum(mag, 0), 0)
    return h
