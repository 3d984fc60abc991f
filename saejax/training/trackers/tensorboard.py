"""A sweep in TensorBoard: a run for every cell, and one more for the heat maps."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saejax.results.result import Result
from saejax.results.workdir import Coords
from saejax.training.trackers import events
from saejax.training.trackers.interface import curves, fingerprint, heat_maps


class TensorBoard:
    """Writes event files; `tensorboard --logdir FOLDER` shows them, also while the sweep trains.

    Each cell is a run of its own in TensorBoard, named by its coordinates, and each metric one
    chart: cells are compared in it, chosen by patterns of their names (`ratio-2_.*seed-0`) and
        coloured by
    one (`l1-([^_]*)`). As tags of one run, a thousand cells and ten metrics would be ten thousand
    charts of one line each. Files are open while a line is written and no longer, so that their
    number is not bounded by that of open files. Nothing needs to be installed to write them. Names
    of files tell which run wrote them: one that goes on writes its own anew, and no others.

    Args:
        folder: gets a folder for every cell, and the heat maps.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._file = self._suffix = ""

    def start(self, run: Mapping[str, Any], coords: Coords, d_sae: tuple[int, ...]) -> None:
        """Keeps which run it is."""
        self._file, self._suffix = "", f".{fingerprint(run)}.saejax"

    def evaluation(
        self, step: int, coords: Coords, d_sae: tuple[int, ...], measured: Mapping[str, np.ndarray]
    ) -> None:
        """Appends the numbers of every cell to its file; the first time in place of earlier
        files."""
        now = time.time()
        if not self._file:
            # What an earlier process has written of the run comes again.
            for file in self.folder.glob(f"**/events.out.tfevents.*{self._suffix}"):
                file.unlink()
            # TensorBoard reads the files of a run in the order of their names.
            self._file = f"events.out.tfevents.{int(now):010d}{self._suffix}"
        for cell, values in curves(coords, measured):
            self._append(self.folder / cell, events.scalars(now, step, values))

    def finish(self, result: Result) -> None:
        """Writes the heat maps."""
        now, step = time.time(), int(result.steps[-1])
        for name, _, png in heat_maps(result):
            self._append(self.folder, events.image(now, step, name, png))

    def close(self) -> None:
        """Nothing is open."""

    def _append(self, folder: Path, record: bytes) -> None:
        path = folder / self._file
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            record = events.version(time.time()) + record
        with path.open("ab") as file:
            file.write(record)
