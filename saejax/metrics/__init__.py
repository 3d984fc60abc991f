"""What is measured of a cell, as batched array code."""

from saejax.core.linalg import cosines
from saejax.metrics.catalogue import LARGER_IS_BETTER, METRICS
from saejax.metrics.measures import Recovered, Seen, alive, mmcs, reconstruction, recovery

__all__ = ["LARGER_IS_BETTER", "METRICS", "Recovered", "Seen", "alive", "cosines", "mmcs"]
__all__ += ["reconstruction", "recovery"]
