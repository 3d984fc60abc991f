"""The keys of randomness: one for each seed and use."""

import jax
from jaxtyping import Array, Integer, PRNGKeyArray

STREAMS = ("truth", "batches", "evaluation", "init", "resample")


def stream(seed: Integer[Array, ""] | int, name: str) -> PRNGKeyArray:
    """The key that a seed has for one use of randomness, by its name in `STREAMS`."""
    return jax.random.fold_in(jax.random.key(seed), STREAMS.index(name))
