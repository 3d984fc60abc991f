"""One sparse autoencoder: its parameters, its architectures, the revival of dead latents."""

from saejax.sae.params import Params, SAEConfig, init, project
from saejax.sae.relu import decode, encode, objective

__all__ = ["Params", "SAEConfig", "decode", "encode", "init", "objective", "project"]
