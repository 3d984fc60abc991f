"""Train a whole grid of sparse autoencoders at once, and study what they learned."""

from saejax import _moved
from saejax.core.version import __version__
from saejax.data.synthetic.recipe import Synthetic
from saejax.metrics.measures import Seen
from saejax.results.compare import compare
from saejax.results.merge import merge
from saejax.results.result import Result
from saejax.results.saving import load, save
from saejax.sae.params import Params, SAEConfig
from saejax.sae.registry import BatchTopK, Gated, JumpReLU, Matryoshka, ReLU, TopK
from saejax.sae.relu import decode, encode
from saejax.sae.revival import Resample
from saejax.sae.trained import SAE
from saejax.training.loop import train
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep

_moved.install()

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
