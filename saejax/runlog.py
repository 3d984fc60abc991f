"""The workdir of a run: the only module that writes one, and how it is read back.

run.json        axes, settings, data, device, versions, times
config.flags    replays the run from the command line
metrics.jsonl   a line per evaluation and cell, written as they come in
results.csv     a row per cell at the end
results.npz     learning curves, best matches, true features
dictionaries/   final weights, one .npz a cell
snapshots/      dictionaries over training, likewise, where they were asked for
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from saejax.result import Result, Snapshots, coordinates, final_values
from saejax.sae import Params
from saejax.sweep import AXES

Coords = Mapping[str, tuple]


def _atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file beside its place and moves it there, so that it is whole or absent."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file that is whole or absent."""
    _atomic(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a binary file that is whole or absent."""
    _atomic(path, lambda part: part.write_bytes(data))


def _plain(value: Any) -> Any:
    """A JSON value: NaN and infinities, which JSON lacks, become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


def new_workdir(workdir: str | Path) -> Path:
    """A folder for a run, made where it is absent.

    Raises:
        FileExistsError: when something is in the way; nothing is touched then.
    """
    path = Path(workdir)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "holds a run" if (path / "run.json").exists() else "holds other files"
        what = what if path.is_dir() else "is a file"
        raise FileExistsError(
            f"workdir: got {str(path)!r}, which {what} already; allowed: a folder that is new "
            "or empty (nothing is ever overwritten)"
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


def write_run(path: Path, run: Mapping[str, Any], finished: bool) -> None:
    """Writes what is known about a run, and whether it has come to its end."""
    write_text(path / "run.json", json.dumps({"finished": finished, **run}, indent=1))


def read_run(workdir: str | Path) -> dict[str, Any]:
    """What `run.json` holds.

    Raises:
        FileNotFoundError: when the folder holds no run.
    """
    path = Path(workdir) / "run.json"
    if not path.exists():
        raise FileNotFoundError(f"workdir: got {str(workdir)!r}, which holds no run (no run.json)")
    return json.loads(path.read_text(encoding="utf-8"))


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends a line of JSON for each row and hands them to the operating system at once."""
    lines = [json.dumps({k: _plain(v) for k, v in row.items()}) + "\n" for row in rows]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(lines)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of `append_rows` in a file, up to one that was cut short."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed .npz file that is whole or absent."""
    _atomic(path, lambda part: np.savez_compressed(part, allow_pickle=False, **arrays))


def discard(path: Path, rows: str, was_there: bool) -> None:
    """Removes what a run wrote before it measured anything, so that it can be started again.

    Args:
        path: its workdir. What others have put there meanwhile is kept, and the folder with it.
        rows: name of the file of its measurements.
        was_there: whether the folder is older than the run, and stays.
    """
    for name in ("run.json", "config.flags", rows):
        (path / name).unlink(missing_ok=True)
    if not was_there and not any(path.iterdir()):
        path.rmdir()


class RunLog:
    """Writer of one workdir.

    Args:
        workdir: the folder; must be absent or empty.
        run: what `run.json` holds. The object is kept, and written again when the run ends.
        flags: text of `config.flags`, None for a run that no command started.

    Attributes:
        measured: whether an evaluation has been written.

    Raises:
        FileExistsError: when something is in the way; nothing is touched then.
    """

    def __init__(self, workdir: str | Path, run: dict[str, Any], flags: str | None) -> None:
        self._was_there = Path(workdir).exists()
        self.path = new_workdir(workdir)
        self.run = run
        self.measured = False
        self.metrics = self.path / "metrics.jsonl"
        try:
            write_run(self.path, run, finished=False)
            if flags is not None:
                write_text(self.path / "config.flags", flags)
            self.metrics.touch()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Takes a run back that ended before its first evaluation was written."""
        discard(self.path, self.metrics.name, self._was_there)

    def evaluation(
        self, step: int, coords: Coords, d_sae: tuple[int, ...], measured: Mapping[str, np.ndarray]
    ) -> None:
        """Appends a line for each cell and hands it to the operating system at once."""
        scalars = {name: a for name, a in measured.items() if a.ndim == len(AXES)}
        rows = []
        for index in np.ndindex(*(len(v) for v in coords.values())):
            cell = coordinates(coords, index)
            row = {"step": step, **cell, "d_sae": d_sae[index[AXES.index("ratio")]]}
            measured_here = {name: float(f"{a[index]:.7g}") for name, a in scalars.items()}
            rows.append(row | measured_here)
        append_rows(self.metrics, rows)
        self.measured = True

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
        write_arrays(self.path / "results.npz", arrays)
        self._cells("dictionaries", result, result.load_params)
        if result.load_snapshots is not None:
            self._cells("snapshots", result, result.load_snapshots)
        write_run(self.path, self.run, finished=True)

    def _cells(self, name: str, result: Result, of: Callable[[tuple[int, ...]], Any]) -> None:
        """A folder with the arrays of a named tuple for each cell."""
        folder = self.path / name
        folder.mkdir()
        for index in np.ndindex(*(len(v) for v in result.coords.values())):
            arrays = {k: v for k, v in of(index)._asdict().items() if v is not None}
            _atomic(
                folder / f"{cell_name(result.coords, index)}.npz",
                lambda part, arrays=arrays: np.savez(part, allow_pickle=False, **arrays),
            )


def load(workdir: str | Path) -> Result:
    """The result of a run from its workdir, also of one that was interrupted.

    An unfinished run has the evaluations whose lines are complete; best matches, true features,
    `mmcs_to_next_larger` and dictionaries are only written at the end.

    Raises:
        FileNotFoundError: when the folder holds no run.
        ValueError: when the run ended before its first evaluation.
    """
    path, run = Path(workdir), read_run(workdir)
    coords = {name: tuple(run["coords"][name]) for name in AXES}

    def read(folder: str, kind: type, index: tuple[int, ...]) -> Any:
        file = path / folder / f"{cell_name(coords, index)}.npz"
        if not file.exists():
            raise FileNotFoundError(f"{file}: absent; {folder} are written when a run ends")
        with np.load(file, allow_pickle=False) as arrays:
            return kind(**arrays)

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
        load_params=partial(read, "dictionaries", Params),
        load_snapshots=(
            partial(read, "snapshots", Snapshots) if run["settings"].get("snapshot_every") else None
        ),
    )


def _read_metrics(path: Path, coords: Coords) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Steps and histories in metrics.jsonl; an evaluation cut short at the end is left out."""
    shape = tuple(len(v) for v in coords.values())
    per_evaluation = math.prod(shape)
    rows = read_rows(path)
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
