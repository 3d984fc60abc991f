"""How dictionaries match each other, and whether what does not match looks random.

MCS of a row g against a dictionary D is `max over rows d of D of cos(g, d)`, a number in [-1, 1].
Here are MCS between all dictionaries of a run, its modes, the law it follows between random
dictionaries, and the statistics that compare samples of it. All randomness comes from explicit
keys. Arguments that all functions share:

    key      of the resamples, or of whatever else is drawn
    n_boot   number of bootstrap resamples
    level    of the intervals, above 0 and below 1

Samples that are not finite vectors and settings out of range raise a ValueError that names them.

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

__all__ = ["CLASSES", "EMD", "Correlation", "Dip", "Explanation", "Group", "Interval", "MaxCosine"]
__all__ += ["Modes", "RandomComparison", "RunMCS", "Split", "compare_with_random", "correlation"]
__all__ += ["dip_test", "emd", "emd_intervals", "explain", "find_modes", "mcs", "mcs_of_run"]
__all__ += ["random_mcs", "split"]
