"""The workdir of a bimodality study, cut to the L1 whose figures are drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from saejax.experiments.language.workdirs import Contents, Rows, by_seed
from saejax.results.plots.panels import Intervals


class View(Contents):
    """A workdir, whose tables have rows of every l1 and whose figures are of one."""

    @property
    def l1(self) -> float:
        """The coefficient whose figures are drawn."""
        return self.run["study"]["l1_shown"]

    @property
    def seeds(self) -> list[int]:
        """Of the dictionaries."""
        return self.run["coords"]["seed"]

    @property
    def sizes(self) -> list[int]:
        """Of the dictionaries, rising."""
        return self.run["coords"]["d_sae"]

    @property
    def smaller(self) -> list[int]:
        """The sizes that have a larger one."""
        return self.sizes[:-1]

    @property
    def cutoff(self) -> float:
        """MCS from it on is high, below it low."""
        return self.run["study"]["cutoff"]

    @property
    def eval_tokens(self) -> int:
        """Tokens on which latents were measured."""
        return self.run["eval_tokens"]

    def array(self, name: str, *at: int) -> np.ndarray | None:
        """An array of the shown l1 by name and sizes; None where there is none."""
        return self.arrays.get("/".join([name, f"{self.l1:g}", *map(str, at)]))

    def blank(self, d_sae: int) -> np.ndarray:
        """An array of all seeds and latents of a size, without values."""
        return np.full((len(self.seeds), d_sae), np.nan)

    def rows(self, table: str, **where: Any) -> Rows:
        """Rows of the shown l1, or of another one, that have all of these values."""
        where = {"l1": self.l1, **where}
        return [row for row in self.tables[table] if all(row[k] == v for k, v in where.items())]

    def column(self, table: str, name: str, sizes: Sequence[int], **where: Any) -> np.ndarray:
        """One number of all seeds and sizes, [seeds, sizes]; NaN where there is no value."""
        return by_seed(self.rows(table, **where), name, self.seeds, d_sae=sizes)

    def intervals(self, table: str, name: str, sizes: Sequence[int], **where: Any) -> Intervals:
        """One number with its interval, [seeds, sizes]."""
        names = (name, f"{name}_from", f"{name}_to")
        return Intervals(*(self.column(table, part, sizes, **where) for part in names))
