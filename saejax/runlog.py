"""The workdir of a run: the only module that writes one, and how it is read back.

run.json        axes, settings, data, device, versions, times
config.flags    replays the run from the command line
metrics.jsonl   a line per evaluation and cell, written as they come in
results.csv     a row per cell at the end
results.npz     learning curves, best matches, true features
dictionaries/   final weights, one .npz a cell
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saejax.result import Result, coordinates, final_values
from saejax.sae import Params
from saejax.sweep import AXES

Coords = Mapping[str, tuple]


def _atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file beside its place and moves it there, so that it is whole or absent."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    write(part)
    os.replace(part, path)


def write_text(path: Path, text: str) -> None:
    """Writes a text file that is whole or absent."""
    _atomic(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a binary file that is whole or absent."""
    _atomic(path, lambda part: part.write_bytes(data))


def _number(value: float) -> float | None:
    """A JSON number of seven figures; NaN and infinities, which JSON lacks, become null."""
    return float(f"{value:.7g}") if math.isfinite(value) else None


def cell_name(coords: Coords, index: tuple[int, ...]) -> str:
    """File name of a cell: its coordinates, without the axes that have one value and no meaning.

    Data set, ratio, l1 and seed always stand; lr and resample where they are swept.
    """
    parts = []
    for name, value in coordinates(coords, index).items():
        if name in ("lr", "resample") and len(coords[name]) == 1:
            continue
        text = f"{value:g}" if isinstance(value, float) else str(value)
        parts.append(text if name == "dataset" else f"{name}-{text}")
    return "_".join(parts)


class RunLog:
    """Writer of one workdir.

    Args:
        workdir: the folder; must be absent or empty.
        run: what `run.json` holds. The object is kept, and written again when the run ends.
        flags: text of `config.flags`, None for a run that no command started.

    Raises:
        FileExistsError: when something is in the way; nothing is touched then.
    """

    def __init__(self, workdir: str | Path, run: dict[str, Any], flags: str | None) -> None:
        self.path = Path(workdir)
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            what = "holds a run" if (self.path / "run.json").exists() else "holds other files"
            what = what if self.path.is_dir() else "is a file"
            raise FileExistsError(
                f"workdir: got {str(self.path)!r}, which {what} already; allowed: a folder that is new "
                "or empty (nothing is ever overwritten)"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.run = run
        self._write_run(finished=False)
        if flags is not None:
            write_text(self.path / "config.flags", flags)
        self.metrics = self.path / "metrics.jsonl"
        self.metrics.touch()

    def _write_run(self, finished: bool) -> None:
        text = json.dumps({"finished": finished, **self.run}, indent=1)
        write_text(self.path / "run.json", text)

    def evaluation(
        self, step: int, coords: Coords, d_sae: tuple[int, ...], measured: Mapping[str, np.ndarray]
    ) -> None:
        """Appends a line for each cell and hands it to the operating system at once."""
        scalars = {name: a for name, a in measured.items() if a.ndim == len(AXES)}
        lines = []
        for index in np.ndindex(*(len(v) for v in coords.values())):
            cell = coordinates(coords, index)
            row = {"step": step, **cell, "d_sae": d_sae[index[AXES.index("ratio")]]}
            row |= {name: _number(float(a[index])) for name, a in scalars.items()}
            lines.append(json.dumps(row) + "\n")
        with self.metrics.open("a", encoding="utf-8") as file:
            file.writelines(lines)

    def finish(self, result: Result) -> None:
        """Writes results and dictionaries, then marks the run as finished."""
        write_text(self.path / "results.csv", result.table().to_csv())
        arrays = {"steps": result.steps}
        arrays |= {f"history/{name}": a for name, a in result.history.items()}
        arrays |= {f"final/{name}": a for name, a in result.final.items()}
        for name in ("best_index", "best_cosine", "features"):
            value = getattr(result, name)
            if value is not None:
                arrays[name] = value
        _atomic(
            self.path / "results.npz",
            lambda part: np.savez_compressed(part, allow_pickle=False, **arrays),
        )
        folder = self.path / "dictionaries"
        folder.mkdir()
        for index in np.ndindex(*(len(v) for v in result.coords.values())):
            params = result.load_params(index)
            weights = {k: v for k, v in params._asdict().items() if v is not None}
            _atomic(
                folder / f"{cell_name(result.coords, index)}.npz",
                lambda part, weights=weights: np.savez(part, allow_pickle=False, **weights),
            )
        self._write_run(finished=True)


def load(workdir: str | Path) -> Result:
    """The result of a run from its workdir, also of one that was interrupted.

    An unfinished run has the evaluations whose lines are complete; best matches, true features,
    `mmcs_to_next_larger` and dictionaries are only written at the end.

    Raises:
        FileNotFoundError: when the folder holds no run.
        ValueError: when the run ended before its first evaluation.
    """
    path = Path(workdir)
    if not (path / "run.json").exists():
        raise FileNotFoundError(f"workdir: got {str(path)!r}, which holds no run (no run.json)")
    run = json.loads((path / "run.json").read_text(encoding="utf-8"))
    coords = {name: tuple(run["coords"][name]) for name in AXES}

    def params(index: tuple[int, ...]) -> Params:
        file = path / "dictionaries" / f"{cell_name(coords, index)}.npz"
        if not file.exists():
            raise FileNotFoundError(f"{file}: absent; dictionaries are written when a run ends")
        with np.load(file, allow_pickle=False) as arrays:
            return Params(**arrays)

    arrays: dict[str, Any] = {}
    if (path / "results.npz").exists():
        with np.load(path / "results.npz", allow_pickle=False) as file:
            arrays = dict(file)
        steps = arrays["steps"]
        parts = {
            part: {k.split("/")[1]: a for k, a in arrays.items() if k.startswith(f"{part}/")}
            for part in ("history", "final")
        }
        history, final = parts["history"], parts["final"]
    else:
        steps, history = _read_metrics(path / "metrics.jsonl", coords)
        final = final_values(history)
    return Result(
        coords=coords,
        d_sae=tuple(run["d_sae"]),
        run=run,
        steps=steps,
        history=history,
        final=final,
        best_index=arrays.get("best_index"),
        best_cosine=arrays.get("best_cosine"),
        features=arrays.get("features"),
        load_params=params,
    )


def _read_metrics(path: Path, coords: Coords) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Steps and histories in metrics.jsonl; an evaluation cut short at the end is left out."""
    shape = tuple(len(v) for v in coords.values())
    per_evaluation = math.prod(shape)
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    rows = rows[: len(rows) // per_evaluation * per_evaluation]
    if not rows:
        raise ValueError(f"{path}: the run ended before its first evaluation, there is nothing to show")
    names = [k for k in rows[0] if k not in (*AXES, "step", "d_sae")]
    history = {
        name: np.array([np.nan if r[name] is None else r[name] for r in rows], float).reshape(
            -1, *shape
        )
        for name in names
    }
    return np.array([row["step"] for row in rows[::per_evaluation]]), history
