"""Training and evaluation batches from a store: shuffled, split, and functions of (seed, step).

Two bijections choose a row (`saejax.data.store.shuffle`). One splits the store: the rows at its
first places are held out for evaluation, whatever the seed. The other, new for every seed and
epoch, orders the rest:

    row(seed, place) = split(n_held_out + order(seed, epoch)(place mod n_train))
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from saejax.core.checks import check_number, check_whole
from saejax.data.prefetch import prefetch
from saejax.data.store.reader import Store
from saejax.data.store.shuffle import Permutation, shuffled

SPLIT = 0
# Rows of one gather: enough that a page of a store is read only a few times in a chunk, few enough
# that their numbers take little memory.
GATHER = 2**20
POSITIVE = "a whole number, 1 or more"


@dataclass(frozen=True)
class StoreSource:
    """A store as a data set to train on.

    Every row that is not held out comes once in an epoch; a batch may reach over the end of one.
    The batches do not depend on the size or order of the shards, and any step can be asked for at
    any time.

    Args:
        store: the rows.
        held_out: share of the rows that are never trained on, from 0 to below 1; rounded to whole
            rows. They are drawn row by row, so neighbours of theirs in the text are trained on.
    """

    store: Store = field(repr=False)
    held_out: float = 0.05
    n_features: None = None

    def __post_init__(self) -> None:
        allowed = "a share from 0 to below 1 that leaves rows to train on"
        share = check_number("held_out", self.held_out, allowed, lambda v: 0 <= v < 1)
        object.__setattr__(self, "held_out", share)
        if self.n_train < 1:
            raise ValueError(f"held_out: got {share}, allowed: {allowed}, of {len(self.store)}")

    @property
    def d_in(self) -> int:
        return self.store.d

    @property
    def n_held_out(self) -> int:
        """Number of rows for evaluation."""
        return round(self.held_out * len(self.store))

    @property
    def n_train(self) -> int:
        """Number of rows in an epoch."""
        return len(self.store) - self.n_held_out

    def train_rows(
        self, seed: int, step: int, n_steps: int, batch_size: int
    ) -> Int64[np.ndarray, "n_steps batch"]:
        """Numbers of the rows in the training batches of `n_steps` steps, after `step` steps.

        The seed chooses the orders. A batch has at most `n_train` rows.
        """
        step = check_whole("step", step, "0 or more (a whole number)", lambda v: v >= 0)
        n_steps = check_whole("n_steps", n_steps, POSITIVE, lambda v: v >= 1)
        allowed = f"1 to {self.n_train}, the rows to train on"
        size = check_whole("batch_size", batch_size, allowed, lambda v: 1 <= v <= self.n_train)
        places = shuffled(self.n_train, seed, step * size, (step + n_steps) * size)
        return self._split(places + self.n_held_out).reshape(n_steps, size)

    def held_out_rows(self, n: int) -> Int64[np.ndarray, " n"]:
        """Numbers of the first `n` held-out rows, in a shuffled order that is always the same."""
        allowed = f"up to {self.n_held_out}, the rows held out (held_out={self.held_out:g})"
        n = check_whole("held-out rows", n, allowed, lambda v: 1 <= v <= self.n_held_out)
        return self._split(np.arange(n))

    def batch(self, seed: int, step: int, batch_size: int) -> Float32[np.ndarray, "batch d_in"]:
        """The training batch of a step. Arguments as in `train_rows`."""
        return self.store.rows(self.train_rows(seed, step, 1, batch_size)[0])

    def batches(
        self, seed: int, batch_size: int, start_step: int = 0, ahead: int = 2
    ) -> Generator[Float32[np.ndarray, "batch d_in"], None, None]:
        """The training batches of `start_step` and all steps after it, read ahead by a thread.

        Nothing but the step has to be kept to continue. `ahead` batches are read early.
        """
        self.train_rows(seed, start_step, 1, batch_size)
        return prefetch(lambda step: self.batch(seed, step, batch_size), count(start_step), ahead)

    def feed(
        self, seed: int, step: int, n_steps: int, batch_size: int
    ) -> Float[np.ndarray, "n_steps batch d_in"]:
        """Training batches of several steps in the dtype of the store, as `HostSource` says.

        The rows of many steps are gathered together, in the order in which they lie on disk.
        """
        rows = self.train_rows(seed, step, n_steps, batch_size).reshape(-1)
        return self._read(rows).reshape(n_steps, batch_size, self.d_in)

    def evaluation(
        self, n_batches: int, batch_size: int
    ) -> Float[np.ndarray, "n_batches batch d_in"]:
        """Held-out batches in the dtype of the store, as `HostSource` says."""
        rows = self.held_out_rows(n_batches * batch_size)
        return self._read(rows).reshape(n_batches, batch_size, self.d_in)

    def mean(self) -> Float64[np.ndarray, " d_in"]:
        """Mean of all rows, held-out ones among them; reads the whole store."""
        return self.store.mean()

    def describe(self) -> dict[str, Any]:
        config = self.store.config
        return {
            "type": "store",
            "model": config.model,
            "hook": config.hook,
            "d_in": self.d_in,
            "dtype": config.dtype,
            "rows": len(self.store),
            "held_out": self.held_out,
            "checksum": self.store.checksum,
        }

    def _split(self, places: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        return Permutation(len(self.store), SPLIT)(places)

    def _read(self, rows: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n d_in"]:
        parts = [self.store.stored_rows(rows[a : a + GATHER]) for a in range(0, len(rows), GATHER)]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]
