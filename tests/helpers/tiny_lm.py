"""A tiny language model made up for tests."""

import jax

from saejax.lm.loss import token_losses
from saejax.lm.model import GPTConfig, forward

CONFIG = GPTConfig(vocab_size=64, context=12, n_layers=2, d_model=8, d_mlp=20, n_heads=2)
POST = "blocks.1.mlp.hook_post"
run = jax.jit(forward, static_argnames="read")
losses_of = jax.jit(token_losses)
