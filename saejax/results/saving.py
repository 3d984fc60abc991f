"""Saving a result as a workdir, and loading it back.

A workdir is a folder with

    run.json        axes, settings, data, device, versions, times
    config.flags    replays the run from the command line
    metrics.jsonl   a line per evaluation and cell, written as they come in
    results.csv     a row per cell at the end
    results.npz     learning curves, best matches, true features
    checkpoints/    while it runs, see `saejax.training.resuming`
    dictionaries/   final weights, one .npz a cell
    snapshots/      dictionaries over training, likewise, where they were asked for
"""

import math
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from saejax.core.files import read_rows
from saejax.results.axes import AXES, final_values, nothing
from saejax.results.result import Result, Snapshots
from saejax.results.workdir import Coords, RunLog, as_now, cell_name, new_workdir, read_run
from saejax.sae.params import Params


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
    try:
        for index in [] if finished else result.cells():
            result.load_params(index)
    except FileNotFoundError as error:
        raise ValueError(
            "result: got one of an interrupted run, which has no dictionaries yet, allowed: one "
            "of a run that has ended"
        ) from error
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


def load(workdir: str | Path) -> Result:
    """The result of a run from its workdir, also of one that was interrupted.

    An unfinished run has the evaluations whose lines are complete; best matches, true features,
    `mmcs_to_next_larger` and dictionaries are only written at the end.

    Raises:
        FileNotFoundError: when the folder holds no run.
        ValueError: when the run ended before its first evaluation, and for a study that is no
            sweep.
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
        lead = len(steps), *shape

        def part(name: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
            start = f"{name}/"
            named = {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
            return {n: a.reshape(shape) for n, a in named.items()}

        history, final = part("history", lead), part("final", shape)
        for name in {"best_index", "best_cosine"} & arrays.keys():
            arrays[name] = arrays[name].reshape(*lead, -1)
    else:
        steps, history = _read_metrics(path / "metrics.jsonl", coords, run.get("n_cells"))
        final = final_values(history)
    films = partial(read, "snapshots", Snapshots)
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
        load_snapshots=films if run["settings"].get("snapshot_every") else None,
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
    allowed = "the workdir of a sweep"
    if (folder / "run.json").exists():
        allowed = f"the folder of its dictionaries ({str(folder)!r})"
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
        raise ValueError(
            f"{path}: the run ended before its first evaluation, there is nothing to show"
        )
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
