"""Synthetic data whose true features are known."""

from saejax.data.synthetic.hierarchy import Hierarchy
from saejax.data.synthetic.magnitudes import Magnitudes
from saejax.data.synthetic.orthogonal import Orthogonal
from saejax.data.synthetic.recipe import (
    Synthetic,
    Truth,
    firing_probabilities,
    firing_rates,
    mean_active,
    sample,
    truth,
)
from saejax.data.synthetic.synthsaebench import synthsaebench_16k
from saejax.data.synthetic.zipf import Zipf

__all__ = ["Hierarchy", "Magnitudes", "Orthogonal", "Synthetic", "Truth", "Zipf"]
__all__ += ["firing_probabilities", "firing_rates", "mean_active", "sample"]
__all__ += ["synthsaebench_16k", "truth"]
