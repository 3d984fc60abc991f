"""What the analysis of a study leaves in its workdir: run.json, arrays, tables and claims."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from saejax.core.files import append_rows, read_rows, write_arrays, write_text
from saejax.core.table import Table
from saejax.results import workdir

Rows = list[dict[str, Any]]


def by_seed(
    rows: Iterable[Mapping[str, Any]], name: str, seeds: Sequence[int], **axis: Sequence[Any]
) -> Float[np.ndarray, "seeds values"]:
    """A column of rows at each seed and each value of another column; NaN where there is none.

    Args:
        rows: one for each, at most.
        name: of the column.
        seeds: that the array is to have.
        axis: the other column = its values.
    """
    ((key, values),) = axis.items()
    cells = {(row["seed"], row[key]): row.get(name) for row in rows}
    out = [[cells.get((seed, value)) for value in values] for seed in seeds]
    return np.array(out, float).reshape(len(seeds), len(values))


class Contents(NamedTuple):
    """A workdir: what run.json, analysis.npz and analysis/NAME.jsonl hold."""

    path: Path
    run: dict[str, Any]
    arrays: dict[str, np.ndarray]
    tables: dict[str, Rows]


def write(contents: Contents, claims: Table) -> None:
    """Leaves everything in the workdir, results.csv (the table `cells`) and claims among it."""
    path, run, arrays, tables = contents
    (path / "analysis").mkdir(exist_ok=True)
    write_arrays(path / "analysis.npz", arrays)
    kept: Mapping[str, Any] = {f"analysis/{n}": rows for n, rows in tables.items()}
    for name, rows in {**kept, "claims": claims}.items():
        (path / f"{name}.jsonl").unlink(missing_ok=True)
        append_rows(path / f"{name}.jsonl", rows)
    write_text(path / "results.csv", Table(tables["cells"]).to_csv())
    workdir.write_run(path, run, finished=True)


def read(path: Path, names: Iterable[str]) -> Contents:
    """A workdir as it is; of its tables those with these names, empty where they are absent.

    Raises:
        FileNotFoundError: when the folder holds no run.
        ValueError: when the run ended before its analysis.
    """
    run, file = workdir.read_run(path), path / "analysis.npz"
    if not file.exists():
        raise ValueError(f"{file}: the run ended before its analysis, there is nothing to show")
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    files = {name: path / "analysis" / f"{name}.jsonl" for name in names}
    tables = {name: read_rows(each) if each.exists() else [] for name, each in files.items()}
    return Contents(path, run, arrays, tables)
