"""One sparse autoencoder: its parameters, its architectures, the revival of dead latents."""

from saejax.core.linalg import unit_rows
from saejax.sae.params import STANDARD, Params, SAEConfig, init, project, standard
from saejax.sae.relu import (
    Terms,
    decode,
    encode,
    kept_terms,
    mse_and_sparsity,
    objective,
    preactivation,
    smallest,
    sparsity_scale,
)

__all__ = ["STANDARD", "Params", "SAEConfig", "Terms", "decode", "encode", "init", "kept_terms"]
__all__ += ["mse_and_sparsity", "objective", "preactivation", "project", "smallest"]
__all__ += ["sparsity_scale", "standard", "unit_rows"]
