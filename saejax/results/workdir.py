"""The folder of a run: made, held and written by one process at a time, never overwritten.

`saejax.results.saving` says what lies in it and reads it back.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from saejax.core.diff import differences
from saejax.core.files import (
    append_rows,
    json_line,
    leftover,
    lock,
    release,
    write_arrays,
    write_text,
    write_whole,
)
from saejax.results.axes import ABSENT, AXES, TABLE, coordinates, telling
from saejax.results.result import Result
from saejax.sae.registry import ReLU

CHECKPOINTS = "checkpoints"
# What makes a run the same run, and what of it is about where it runs.
IDENTITY = ("coords", "d_sae", "settings", "architectures", "metrics", "data", "study")
MACHINE = ("device", "versions", "layout")
# Flags of a process, not of a run.
PROCESS_FLAGS = {
    *("dry_run", "distributed", "coordinator", "num_processes", "process_id"),
    "compilation_cache",
}
# Flags that change no result, and so may change when a run goes on.
FREE_FLAGS = PROCESS_FLAGS | {"workdir", "checkpoint_every", "keep_checkpoints", "trackers"}
Coords = Mapping[str, tuple]


def new_workdir(workdir: str | Path) -> Path:
    """A folder for a run, made where it is absent.

    Raises:
        FileExistsError: when something is in the way; nothing is touched then.
    """
    path = Path(workdir)
    if path.exists() and (not path.is_dir() or any(not leftover(p) for p in path.iterdir())):
        what = "holds a run" if (path / "run.json").exists() else "holds other files"
        what = what if path.is_dir() else "is a file"
        raise FileExistsError(
            f"workdir: got {str(path)!r}, which {what} already; allowed: a folder that is new "
            "or empty (nothing is ever overwritten)"
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


def as_now(run: Mapping[str, Any]) -> dict[str, Any]:
    """What `run.json` holds, with what an older version did not say because it had no other value.

    Args:
        run: as it was written, by this version or an older one. Runs in stages hold no axes.
    """
    now = dict(run)
    if "coords" in run:
        older = {axis.name: [axis.before] for axis in TABLE if axis.before is not None}
        now["coords"] = run["coords"] | {n: v for n, v in older.items() if n not in run["coords"]}
        now.setdefault("architectures", {"relu": ReLU().describe()})
        now.setdefault("metrics", {})
    rule = run.get("settings", {}).get("resample")
    if rule is not None:
        now["settings"] = run["settings"] | {"resample": {"aux_after": 0, **rule}}
    return now


def other_flags(got: str, allowed: str, free: Iterable[str] = ()) -> list[str]:
    """A line for every flag that two flagfiles set otherwise, but for those that may change.

    Args:
        got: text of the one.
        allowed: text of the other.
        free: flags that may change besides `FREE_FLAGS`.
    """

    def values(text: str) -> dict[str, str]:
        pairs = (line.removeprefix("--").partition("=") for line in text.splitlines())
        return {name: value for name, _, value in pairs if name not in FREE_FLAGS | {*free}}

    return differences(values(got), values(allowed))


def discard(path: Path, rows: str, was_there: bool, own: FileLock | None = None) -> None:
    """Removes what a run wrote before it measured anything, so that it can be started again.

    Args:
        path: its workdir. What others have put there meanwhile is kept, and the folder with it.
        rows: name of the file of its measurements.
        was_there: whether the folder is older than the run, and stays.
        own: its lock, which is released.
    """
    # Last what says whose folder it is: a kill in between leaves a run that can go on.
    for name in ("config.flags", rows, "run.json"):
        (path / name).unlink(missing_ok=True)
    if own:
        release(own)
    if not was_there and not any(path.iterdir()):
        path.rmdir()


def cell_name(coords: Coords, index: tuple[int, ...]) -> str:
    """File name of a cell: its coordinates along the axes that tell cells apart."""
    at = coordinates(coords, index)
    texts = {n: f"{at[n]:g}" if isinstance(at[n], float) else str(at[n]) for n in telling(coords)}
    return "_".join(text if n == "dataset" else f"{n}-{text}" for n, text in texts.items())


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
        before, file = read_run(self.path), self.path / "config.flags"
        there = {name: value for name, value in as_now(before).items() if name in IDENTITY}
        different = differences({n: self.run[n] for n in IDENTITY if n in self.run}, there)
        if different and flags is not None and file.exists():
            different = other_flags(flags, file.read_text(encoding="utf-8")) or different
        if different:
            raise ValueError(
                f"workdir: got {str(self.path)!r}, which holds a run of other settings: "
                f"{'; '.join(different)}; allowed: the same, or a new folder"
            )
        self.ended = before["finished"]
        self.measured = True
        self.run["resumed"] = before.get("resumed", [])
        if flags is not None and not file.exists():
            write_text(file, flags)
        other = differences(*({n: r[n] for n in MACHINE if n in r} for r in (self.run, before)))
        if other and not self.ended:
            warnings.warn(
                f"workdir {self.path}: the run goes on elsewhere and may round otherwise than "
                f"where it began: {'; '.join(other)}",
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
        write_text(self.metrics, "".join(map(json_line, rows)))
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
        arrays |= {n: getattr(result, n) for n in ("best_index", "best_cosine", "features")}
        arrays = {name: a for name, a in arrays.items() if a is not None}
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
            write_whole(
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
