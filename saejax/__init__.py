"""Train a whole grid of sparse autoencoders at once, and study what they learned."""

from saejax._version import __version__
from saejax.data.synthetic import Synthetic
from saejax.resample import Resample
from saejax.result import Result
from saejax.runlog import load
from saejax.sae import Params, SAEConfig, decode, encode
from saejax.settings import Settings
from saejax.sweep import Sweep
from saejax.train import train

__all__ = [
    "Params",
    "Resample",
    "Result",
    "SAEConfig",
    "Settings",
    "Sweep",
    "Synthetic",
    "__version__",
    "decode",
    "encode",
    "load",
    "train",
]
