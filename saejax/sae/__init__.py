"""One sparse autoencoder: its parameters, its architectures, the revival of dead latents."""

from saejax.sae.params import STANDARD, Params, SAEConfig, init, project, standard
from saejax.sae.relu import decode, encode, objective, preactivation

__all__ = ["STANDARD", "Params", "SAEConfig", "decode", "encode", "init", "objective"]
__all__ += ["preactivation", "project", "standard"]
