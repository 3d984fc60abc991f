"""Losses and gradients of every architecture against SAELens, where it is installed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.late import Late

from saejax import SAEConfig
from saejax.sae.registry import KINDS, Swept

torch = Late("torch", "needs torch")
saes = Late("sae_lens.saes", "needs sae_lens (the extra [interop])")

D_IN, D_SAE, BATCH, K, L1 = 6, 16, 32, 3, 0.05
CONFIG = SAEConfig("sum", use_b_dec=True)
X = np.random.default_rng(0).normal(size=(BATCH, D_IN)).astype(np.float32)
# Their name of each of our weights.
NAMES = {"gated": {"b_enc": "b_gate"}, "jumprelu": {"log_threshold": "threshold"}}
# In their gated SAE the gate's own reconstruction trains the decoder too, which the paper holds
# fixed.
NOT_COMPARED = {
    "gated": ("W_dec", "b_dec"),
    "batchtopk": ("threshold",),
    "matryoshka": ("threshold",),
}
PEERS = {
    "relu": ("StandardTrainingSAE", {"l1_coefficient": L1 * D_IN}, {"l1": L1 * D_IN}),
    "topk": ("TopKTrainingSAE", {"k": K, "aux_loss_coefficient": 0.0}, {}),
    "batchtopk": ("BatchTopKTrainingSAE", {"k": float(K), "aux_loss_coefficient": 0.0}, {}),
    "jumprelu": (
        "JumpReLUTrainingSAE",
        {"l0_coefficient": L1 * D_IN, "jumprelu_bandwidth": 0.3, "jumprelu_init_threshold": 0.2},
        {"l0": L1 * D_IN},
    ),
    "gated": ("GatedTrainingSAE", {"l1_coefficient": L1 * D_IN}, {"l1": L1 * D_IN}),
    "matryoshka": (
        "MatryoshkaBatchTopKTrainingSAE",
        {"k": float(K), "aux_loss_coefficient": 0.0, "matryoshka_widths": [2, 8, D_SAE]},
        {},
    ),
}


def ours(kind):
    own = KINDS[kind]()
    if kind == "jumprelu":
        return replace(own, bandwidth=0.3, initial_threshold=0.2)
    return replace(own, prefixes=(1 / 8, 1 / 2, 1)) if kind == "matryoshka" else own


def peer(kind, params):
    """Their SAE with our weights."""
    name, settings, _ = PEERS[kind]
    if "topk" in kind or kind == "matryoshka":
        settings = settings | {"rescale_acts_by_decoder_norm": False}
    config = getattr(saes, f"{name}Config")(
        d_in=D_IN, d_sae=D_SAE, apply_b_dec_to_input=True, **settings
    )
    their = getattr(saes, name)(config)
    with torch.no_grad():
        for field, value in params._asdict().items():
            if value is not None and field != "threshold":
                named = NAMES.get(kind, {}).get(field, field)
                value = np.exp(value) if field == "log_threshold" else value
                getattr(their, named).copy_(torch.from_numpy(np.array(value)))
    return their


def step_input(coefficients):
    from sae_lens.saes.sae import TrainStepInput

    return TrainStepInput(
        sae_in=torch.from_numpy(X),
        coefficients=coefficients,
        dead_neuron_mask=torch.zeros(D_SAE, dtype=torch.bool),
        n_training_steps=0,
        is_logging_step=False,
    )


@pytest.mark.parametrize("kind", PEERS)
def test_loss_and_gradient_are_those_of_saelens(kind):
    """Theirs sum over d_in; rows of W_dec have norm 1, which their penalty multiplies."""
    own, key = ours(kind), jax.random.key(1)
    params = own.init(key, D_IN, D_SAE, CONFIG)
    noise = jax.random.split(key, 3)
    params = params._replace(
        b_enc=params.b_enc + 0.2 * jax.random.normal(noise[0], (D_SAE,)),
        b_dec=0.3 * jax.random.normal(noise[1], (D_IN,)),
    )
    if kind == "gated":
        params = params._replace(r_mag=0.3 * jax.random.normal(noise[2], (D_SAE,)))
    reads = own.reads
    swept = Swept(*(jnp.float32(v if reads == n else 0) for n, v in (("l1", L1), ("k", K))))
    value, grads = jax.value_and_grad(lambda p: own.loss(p, jnp.array(X), swept, CONFIG).total)(
        params
    )
    their = peer(kind, params)
    out = their.training_forward_pass(step_input(PEERS[kind][2]))
    out.loss.backward()
    np.testing.assert_allclose(D_IN * value, out.loss.item(), rtol=1e-5)
    for field, gradient in grads._asdict().items():
        if gradient is None or field in NOT_COMPARED.get(kind, ()):
            continue
        theirs = getattr(their, NAMES.get(kind, {}).get(field, field)).grad.numpy()
        if field == "log_threshold":
            theirs = theirs * np.exp(params.log_threshold)
        if field == "W_dec" and kind == "relu":
            # Their penalty pulls at the norms of the rows; ours have norm 1 for good.
            rows = np.asarray(params.W_dec)
            along = (theirs * rows).sum(1, keepdims=True), (gradient * rows).sum(1, keepdims=True)
            theirs, gradient = theirs - along[0] * rows, gradient - along[1] * rows
        np.testing.assert_allclose(D_IN * gradient, theirs, atol=2e-4, err_msg=field)
