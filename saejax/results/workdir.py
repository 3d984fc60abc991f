"""Whose a workdir is: a folder for one run, written by one process at a time, never for another
run."""

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
from saejax.results.axes import ABSENT, AXES, coordinates
from saejax.results.result import Result
from saejax.sae.registry import ReLU

CHECKPOINTS = "checkpoints"
# What makes a run the same run.
SAME = ("coords", "d_sae", "settings", "architectures", "metrics", "data", "study")
# Flags of a process, not of a run.
PROCESS_FLAGS = {
    "dry_run",
    "distributed",
    "coordinator",
    "num_processes",
    "process_id",
    "compilation_cache",
}
# Flags that change no result, and so may change when a run goes on.
FREE_FLAGS = PROCESS_FLAGS | {"workdir", "checkpoint_every", "keep_checkpoints", "trackers"}


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
    """What `run.json` holds, with what it did not say before there were several architectures.

    Args:
        run: as it was written, by this version or an older one. Runs in stages hold no axes.
    """
    now = dict(run)
    if "coords" in run:
        now["coords"] = {**run["coords"]}
        for name, only in (("architecture", "relu"), ("k", 0)):
            now["coords"].setdefault(name, [only])
        now.setdefault("architectures", {"relu": ReLU().describe()})
        now.setdefault("metrics", {})
    rule = run.get("settings", {}).get("resample")
    if rule is not None:
        now["settings"] = run["settings"] | {"resample": {"aux_after": 0, **rule}}
    return now


def other_settings(
    workdir: str | Path, run: Mapping[str, Any], before: Mapping[str, Any], flags: str | None
) -> list[str]:
    """What a run would do otherwise than the one in its workdir, a line for each.

    Args:
        workdir: the folder.
        run: what `run.json` would hold.
        before: what it holds.
        flags: text of the flagfile of the run; with one, the lines name flags.
    """
    different = differences(*({n: r[n] for n in SAME if n in r} for r in (run, as_now(before))))
    file = Path(workdir) / "config.flags"
    if different and flags is not None and file.exists():
        named = other_flags(flags, file.read_text(encoding="utf-8"))
        different = named or different
    return different


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


Coords = Mapping[str, tuple]
# What of a run is about where it runs.
MACHINE = ("device", "versions", "layout")


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
