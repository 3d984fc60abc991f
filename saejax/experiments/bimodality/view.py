"""What the workdir of a bimodality study holds, cut to the L1 whose figures are drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from saejax.core.files import read_rows
from saejax.experiments.bimodality.claims import KEYS
from saejax.results.plots.panels import Intervals
from saejax.results.workdir import read_run


class View(NamedTuple):
    """A workdir.

    Attributes:
        path: the folder.
        run: what run.json holds.
        arrays: of analysis.npz.
        tables: the rows of analysis/NAME.jsonl by name, of every l1.
    """

    path: Path
    run: dict[str, Any]
    arrays: dict[str, np.ndarray]
    tables: dict[str, list[dict[str, Any]]]

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

    def rows(self, table: str, **where: Any) -> list[dict[str, Any]]:
        """Rows of the shown l1, or of another one, that have all of these values."""
        where = {"l1": self.l1, **where}
        return [row for row in self.tables[table] if all(row[k] == v for k, v in where.items())]

    def column(self, table: str, name: str, sizes: Sequence[int], **where: Any) -> np.ndarray:
        """One number of all seeds and sizes, [seeds, sizes]; NaN where there is no value."""
        found = {(row["seed"], row["d_sae"]): row for row in self.rows(table, **where)}
        out = np.full((len(self.seeds), len(sizes)), np.nan)
        for i, j in np.ndindex(out.shape):
            value = found.get((self.seeds[i], sizes[j]), {}).get(name)
            out[i, j] = np.nan if value is None else value
        return out

    def intervals(self, table: str, name: str, sizes: Sequence[int], **where: Any) -> Intervals:
        """One number with its interval, [seeds, sizes]."""
        names = (name, f"{name}_from", f"{name}_to")
        return Intervals(*(self.column(table, part, sizes, **where) for part in names))


def read(path: Path) -> View:
    """A workdir as it is; tables that are absent have no rows.

    Raises:
        FileNotFoundError: when the folder holds no run.
        ValueError: when the run ended before its analysis.
    """
    run, file = read_run(path), path / "analysis.npz"
    if not file.exists():
        raise ValueError(f"{file}: the run ended before its analysis, there is nothing to show")
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    files = {name: path / "analysis" / f"{name}.jsonl" for name in KEYS}
    tables = {name: read_rows(each) if each.exists() else [] for name, each in files.items()}
    return View(path, run, arrays, tables)
