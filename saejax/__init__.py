"""Train a whole grid of sparse autoencoders at once, and study what they learned."""

from saejax._version import __version__
from saejax.architectures import BatchTopK, Gated, JumpReLU, Matryoshka, ReLU, TopK
from saejax.data.synthetic import Synthetic
from saejax.dictionary import SAE
from saejax.merging import compare, merge
from saejax.metrics import Seen
from saejax.resample import Resample
from saejax.result import Result
from saejax.runlog import load, save
from saejax.sae import Params, SAEConfig, decode, encode
from saejax.settings import Settings
from saejax.sweep import Sweep
from saejax.train import train

__all__ = [
    "SAE",
    "BatchTopK",
    "Gated",
    "JumpReLU",
    "Matryoshka",
    "Params",
    "ReLU",
    "Resample",
    "Result",
    "SAEConfig",
    "Seen",
    "Settings",
    "Sweep",
    "Synthetic",
    "TopK",
    "__version__",
    "compare",
    "decode",
    "encode",
    "load",
    "merge",
    "save",
    "train",
]
