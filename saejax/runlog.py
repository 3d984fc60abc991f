"""The workdir of a run: the only module that writes one, and how it is read back.

A workdir is a folder with

    run.json        axes, settings, data, device, versions, times
    config.flags    replays the run from the command line
    metrics.jsonl   a line per evaluation and cell, written as they come in
    results.csv     a row per cell at the end
    results.npz     learning curves, best matches, true features
    checkpoints/    while it runs, see `saejax.keeper`
    dictionaries/   final weights, one .npz a cell
    snapshots/      dictionaries over training, likewise, where they were asked for
"""

import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from saejax.differences import differences
from saejax.result import ABSENT, Result, Snapshots, coordinates, final_values, nothing
from saejax.sae import Params
from saejax.sweep import AXES
from saejax.workdir import CHECKPOINTS, as_now, discard, lock, new_workdir, other_settings, release

Coords = Mapping[str, tuple]
# What of a run is about where it runs.
MACHINE = ("device", "versions", "layout")


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

    Data set, ratio, l1 and seed always stand; the others where they are swept.
    """
    parts = []
    for name, value in coordinates(coords, index).items():
        if name in ("lr", "resample", "architecture", "k") and len(coords[name]) == 1:
            continue
        text = f"{value:g}" if isinstance(value, float) else str(value)
        parts.append(text if name == "dataset" else f"{name}-{text}")
    return "_".join(parts)


def write_run(path: Path, run: Mapping[str, Any], finished: bool) -> None:
    """Writes what is known about a run, and whether it has come to its end."""
    write_text(path / "run.json", json.dumps({**run, "finished": finished}, indent=1))


def read_run(workdir: str | Path) -> dict[str, Any]:
    """What `run.json` holds.

    Raises:
        FileNotFoundError: when the folder holds no run.
    """
    path = Path(workdir) / "run.json"
    if not path.exists():
        raise FileNotFoundError(f"workdir: got {str(workdir)!r}, which holds no run (no run.json)")
    return json.loads(path.read_text(encoding="utf-8"))


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps({k: _plain(v) for k, v in row.items()}) + "\n"


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends a line of JSON for each row and hands them to the operating system at once."""
    lines = [_line(row) for row in rows]
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


class RunLog:
    """Writer of one workdir; a context manager that holds the folder's lock.

    Args:
        workdir: the folder: absent, empty, or of the same run.
        run: what `run.json` holds. The object is kept, and written again when the run ends.
        flags: text of `config.flags`, None for a run that no command started.

    Attributes:
        path: the folder.
        ended: whether the run had come to its end before; then nothing is to be done.
        measured: whether an evaluation has been written, by this process or one before it.

    Raises:
        FileExistsError: when something else is in the way; nothing is touched then.
        ValueError: when the folder holds a run of other settings, naming each.
        BlockingIOError: when another process is using it.
    """

    def __init__(self, workdir: str | Path, run: dict[str, Any], flags: str | None) -> None:
        self.path = Path(workdir)
        self._was_there = self.path.exists()
        self.run = run
        self.metrics = self.path / "metrics.jsonl"
        if not (self.path / "run.json").exists():
            new_workdir(self.path)
        self._lock = lock(self.path)
        self.ended = self.measured = False
        try:
            if (self.path / "run.json").exists():
                self._go_on(flags)
            else:
                self._begin(flags)
        except BaseException:
            self.close()
            raise

    def _begin(self, flags: str | None) -> None:
        try:
            write_run(self.path, self.run, finished=False)
            if flags is not None:
                write_text(self.path / "config.flags", flags)
            self.metrics.touch()
        except BaseException:
            self.discard()
            raise

    def _go_on(self, flags: str | None) -> None:
        before = read_run(self.path)
        different = other_settings(self.path, self.run, before, flags)
        if different:
            raise ValueError(
                f"workdir: got {str(self.path)!r}, which holds a run of other settings: "
                f"{'; '.join(different)}; allowed: the same, or a new folder"
            )
        self.ended = before["finished"]
        self.measured = True
        self.run["resumed"] = before.get("resumed", [])
        if flags is not None and not (self.path / "config.flags").exists():
            write_text(self.path / "config.flags", flags)
        other = differences(*({n: r[n] for n in MACHINE if n in r} for r in (self.run, before)))
        if other and not self.ended:
            warnings.warn(
                f"workdir {self.path}: the run goes on elsewhere and may round otherwise than where it "
                f"began: {'; '.join(other)}",
                stacklevel=4,
            )

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets other processes have the folder."""
        release(self._lock)

    def discard(self) -> None:
        """Takes a run back that ended before its first evaluation was written, and closes it."""
        discard(self.path, self.metrics.name, self._was_there, self._lock)

    def resume(self, step: int, coords: Coords, d_sae: tuple[int, ...], history: list) -> None:
        """Writes the metrics of the evaluations up to a step anew, and that the run goes on there.

        Args:
            step: number of steps done.
            coords: values along each axis.
            d_sae: width at each ratio.
            history: measurements of the evaluations up to there, at equal distances.
        """
        every = step // max(1, len(history))
        rows = [
            row
            for i, measured in enumerate(history, 1)
            for row in _rows(i * every, coords, d_sae, measured)
        ]
        write_text(self.metrics, "".join(map(_line, rows)))
        if step:
            about = {name: self.run[name] for name in MACHINE if name in self.run}
            self.run["resumed"] = [*self.run.get("resumed", []), {"step": step, **about}]
        write_run(self.path, self.run, finished=False)

    def evaluation(
        self, step: int, coords: Coords, d_sae: tuple[int, ...], measured: Mapping[str, np.ndarray]
    ) -> None:
        """Appends a line for each cell and hands it to the operating system at once."""
        append_rows(self.metrics, _rows(step, coords, d_sae, measured))
        self.measured = True

    def finish(self, result: Result, finished: bool = True) -> None:
        """Writes results and dictionaries, marks the run as finished, and drops its checkpoints.

        Args:
            result: of the run.
            finished: False for the copy of a run that had not come to its end.
        """
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
        write_run(self.path, self.run, finished)
        self.drop_checkpoints()

    def drop_checkpoints(self) -> None:
        """Removes the checkpoints of a run whose results are written."""
        if (self.path / CHECKPOINTS).exists():
            # Network disks keep files that are open under another name for a while.
            shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)

    def _cells(self, name: str, result: Result, of: Callable[[tuple[int, ...]], Any]) -> None:
        """A folder with the arrays of a named tuple for each cell."""
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        for index in result.cells():
            arrays = {k: v for k, v in of(index)._asdict().items() if v is not None}
            _atomic(
                folder / f"{cell_name(result.coords, index)}.npz",
                lambda part, arrays=arrays: np.savez(part, allow_pickle=False, **arrays),
            )


def _rows(
    step: int, coords: Coords, d_sae: tuple[int, ...], measured: Mapping[str, np.ndarray]
) -> Iterator[dict[str, Any]]:
    """A row of metrics.jsonl for each cell."""
    scalars = {name: a for name, a in measured.items() if a.ndim == len(AXES)}
    for index in map(tuple, np.argwhere(measured["frozen_at"] != ABSENT).tolist()):
        cell = coordinates(coords, index)
        row = {"step": step, **cell, "d_sae": d_sae[index[AXES.index("ratio")]]}
        yield row | {name: float(f"{a[index]:.7g}") for name, a in scalars.items()}


def save(result: Result, workdir: str | Path) -> Path:
    """Writes a result as the workdir of a run, from which `load` reads it back.

    Args:
        result: of a sweep, or merged from several.
        workdir: a folder that is absent or empty.

    Returns:
        The folder.

    Raises:
        FileExistsError: when something is in the way; nothing is touched then.
        ValueError: likewise, for an interrupted run, or one merged from such, without dictionaries.

    Whatever else fails leaves nothing behind. One of a run that had not come to its end stays so.
    """
    path = Path(workdir)
    finished = result.run.get("finished", True)
    if not finished:
        _check_dictionaries(result)
    if (path / "run.json").exists():
        new_workdir(path)  # refuses it, where a writer would go on with the same run
    with RunLog(path, dict(result.run), None) as log:
        try:
            for i, step in enumerate(result.steps):
                measured = {name: a[i] for name, a in result.history.items()}
                log.evaluation(int(step), result.coords, result.d_sae, measured)
            log.finish(result, finished)
        except BaseException:
            for name in ("results.csv", "results.npz"):
                (path / name).unlink(missing_ok=True)
            for name in ("dictionaries", "snapshots"):
                shutil.rmtree(path / name, ignore_errors=True)
            log.discard()
            raise
    return path


def _check_dictionaries(result: Result) -> None:
    """Looks for the dictionaries of a run that had not come to its end.

    Raises:
        ValueError: where a cell has none.
    """
    try:
        for index in result.cells():
            result.load_params(index)
    except FileNotFoundError as error:
        raise ValueError(
            "result: got one of an interrupted run, which has no dictionaries yet, allowed: one of a "
            "run that has ended"
        ) from error


def load(workdir: str | Path) -> Result:
    """The result of a run from its workdir, also of one that was interrupted.

    An unfinished run has the evaluations whose lines are complete; best matches, true features,
    `mmcs_to_next_larger` and dictionaries are only written at the end.

    Raises:
        FileNotFoundError: when the folder holds no run.
        ValueError: when the run ended before its first evaluation, and for a study that is no sweep.
    """
    path, run = Path(workdir), as_now(read_run(workdir))
    if not set(AXES) <= set(run.get("coords", {})):
        _refuse_study(path, run)
    coords = {name: tuple(run["coords"][name]) for name in AXES}
    shape = tuple(len(values) for values in coords.values())

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
        history = {name: a.reshape(len(steps), *shape) for name, a in parts["history"].items()}
        final = {name: a.reshape(shape) for name, a in parts["final"].items()}
        for name in ("best_index", "best_cosine"):
            if name in arrays:
                arrays[name] = arrays[name].reshape(len(steps), *shape, -1)
    else:
        steps, history = _read_metrics(path / "metrics.jsonl", coords, run.get("n_cells"))
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


def _refuse_study(path: Path, run: Mapping[str, Any]) -> NoReturn:
    """Says of a run that is no sweep where the sweep lies that it looks at.

    Raises:
        ValueError: always.
    """
    file, key = path / "config.flags", "--dictionaries="
    flags = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    named = [line.removeprefix(key) for line in flags if line.startswith(key)]
    folder = Path(named[-1]) if named else path / "dictionaries"
    there = (folder / "run.json").exists()
    allowed = f"the folder of its dictionaries ({str(folder)!r})" if there else "the workdir of a sweep"
    name = run.get("study", {}).get("name")
    raise ValueError(
        f"workdir: got {str(path)!r}, which holds no sweep but the study {name}; allowed: {allowed}"
    )


def _read_metrics(
    path: Path, coords: Coords, n_cells: int | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Steps and histories in metrics.jsonl; an evaluation cut short at the end is left out.

    Args:
        path: of the file.
        coords: values along each axis.
        n_cells: number of cells; None for every combination of coordinates.
    """
    shape = tuple(len(v) for v in coords.values())
    per_evaluation = n_cells or math.prod(shape)
    rows = read_rows(path)
    rows = rows[: len(rows) // per_evaluation * per_evaluation]
    if not rows:
        raise ValueError(f"{path}: the run ended before its first evaluation, there is nothing to show")
    steps = [row["step"] for row in rows[::per_evaluation]]
    places = [{value: i for i, value in enumerate(values)} for values in coords.values()]

    def place(row: Mapping[str, Any]) -> tuple[int, ...]:
        # Rows of before there were these axes lack them, and lie at their only place.
        values = (row.get(name, own[0]) for name, own in coords.items())
        return tuple(at[value] for at, value in zip(places, values, strict=True))

    # Every evaluation has the cells in the same order.
    index = tuple(np.array([place(row) for row in rows[:per_evaluation]]).T)
    names = [k for k in rows[0] if k not in (*AXES, "step", "d_sae")]
    history = {}
    for name in names:
        filled = np.full((len(steps), *shape), nothing(name, np.dtype(float)), float)
        values = [np.nan if row[name] is None else row[name] for row in rows]
        filled[(slice(None), *index)] = np.reshape(values, (len(steps), per_evaluation))
        history[name] = filled
    return np.array(steps), history
