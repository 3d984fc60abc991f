"""How far a run has come: what its host loop carries from one chunk to the next."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from saejax.state import State


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        state: on the devices.
        done: number of steps done.
        history: measurements of each evaluation, with the axes of the sweep.
        snapshots: those of each chunk, with a leading axis.
        seconds: that each chunk took.
    """

    state: State
    done: int = 0
    history: list[dict[str, np.ndarray]] = field(default_factory=list)
    snapshots: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
