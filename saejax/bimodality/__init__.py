"""The bimodality study: what the dictionaries of one sweep have in common, and what they do not.

`measure` runs the dictionaries on a text in the language model whose activations they were trained on;
`analyse` matches them with each other and with random ones. Both give arrays and rows for the workdir;
neither writes anything.

Source: "[Research Update] Sparse Autoencoder features are bimodal".
"""

from saejax.bimodality.analysis import Analysis, analyse
from saejax.bimodality.measurement import Measured, dictionaries, measure
from saejax.bimodality.settings import AnalysisSettings

__all__ = ["Analysis", "AnalysisSettings", "Measured", "analyse", "dictionaries", "measure"]
