"""Small SAEs of every architecture with weights drawn at random, and what they compute, in
NumPy."""

import numpy as np

from saejax.sae.params import Params
from saejax.sae.trained import SAE

ARCHITECTURES = ("relu", "topk", "batchtopk", "jumprelu", "gated", "matryoshka")
D_IN, D_SAE, K = 5, 12, 3
METADATA = {
    "model_name": "gpt2",
    "hook_name": "blocks.3.hook_resid_pre",
    "context_size": 16,
    "matryoshka_widths": [4, D_SAE],
}


def make(architecture, b_dec=True, unit_norm=True, k=K, metadata=METADATA):
    """An SAE about a third of whose activations are above 0, with biases that matter."""
    rng = np.random.default_rng(ARCHITECTURES.index(architecture))

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    W_dec = draw(D_SAE, D_IN)
    if unit_norm:
        W_dec /= np.linalg.norm(W_dec, axis=1, keepdims=True)
    own = {
        "batchtopk": lambda: {"threshold": np.float32(0.7)},
        "matryoshka": lambda: {"threshold": np.float32(0.4)},
        "jumprelu": lambda: {
            "log_threshold": np.log(rng.uniform(0.1, 1.5, D_SAE)).astype(np.float32)
        },
        "gated": lambda: {"r_mag": 0.3 * draw(D_SAE), "b_mag": draw(D_SAE)},
    }.get(architecture, dict)()
    params = Params(draw(D_IN, D_SAE), draw(D_SAE), W_dec, draw(D_IN) if b_dec else None, **own)
    return SAE(params, architecture, k, metadata)


def inputs(n=64):
    return np.random.default_rng(99).normal(size=(n, D_IN)).astype(np.float32)
