"""How dictionaries match each other, and whether what does not match looks random.

MCS of a row g against a dictionary D is `max over rows d of D of cos(g, d)`, a number in [-1, 1].
Here are MCS between all dictionaries of a run, its modes, the law it follows between random
dictionaries, and the statistics that compare samples of it. Whatever is drawn comes from an
explicit key, and equal keys give equal results.

Source: "[Research Update] Sparse Autoencoder features are bimodal".
"""

from saejax.analysis.mcs.comparison import RandomComparison, compare_with_random
from saejax.analysis.mcs.dictionaries import RunMCS, mcs, mcs_of_run, random_mcs
from saejax.analysis.mcs.dip import Dip, dip_test
from saejax.analysis.mcs.distance import EMD, emd, emd_intervals
from saejax.analysis.mcs.explanation import CLASSES, Explanation, Group, explain
from saejax.analysis.mcs.law import MaxCosine
from saejax.analysis.mcs.modes import Modes, find_modes
from saejax.analysis.mcs.shares import Correlation, Split, correlation, split
from saejax.core.stats import Interval

__all__ = [
    "CLASSES",
    "EMD",
    "Correlation",
    "Dip",
    "Explanation",
    "Group",
    "Interval",
    "MaxCosine",
    "Modes",
    "RandomComparison",
    "RunMCS",
    "Split",
    "compare_with_random",
    "correlation",
    "dip_test",
    "emd",
    "emd_intervals",
    "explain",
    "find_modes",
    "mcs",
    "mcs_of_run",
    "random_mcs",
    "split",
]
