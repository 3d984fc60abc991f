"""What a tracker is, and what the trackers of this package show: curves of cells, and heat maps."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from saejax.results.axes import AXES, TRAINED
from saejax.results.result import Result
from saejax.results.workdir import IDENTITY, Coords, cell_name


@runtime_checkable
class Tracker(Protocol):
    """Where a sweep can be watched; any object with these methods is one.

    Methods are called in this order, in a thread of the tracker's own (see
    `saejax.training.trackers.guard`). Nothing is written before the first evaluation: a run that
    ends before it leaves no trace.
    """

    def start(self, run: Mapping[str, Any], coords: Coords, d_sae: tuple[int, ...]) -> None:
        """A run begins or goes on. In the latter case its earlier evaluations come again, from the
        first on, so that a tracker which forgets what it had shows each of them once.

        Args:
            run: what `run.json` holds.
            coords: values along each axis.
            d_sae: width at each ratio.
        """
        ...

    def evaluation(
        self, step: int, coords: Coords, d_sae: tuple[int, ...], measured: Mapping[str, np.ndarray]
    ) -> None:
        """Measurements of all cells.

        Args:
            step: number of steps done.
            coords: values along each axis.
            d_sae: width at each ratio.
            measured: name -> [*shape, ...]; one number a cell where nothing follows the axes.
        """
        ...

    def finish(self, result: Result) -> None:
        """The run has come to its end; not called for one that was interrupted."""
        ...

    def close(self) -> None:
        """Nothing more will come; called once, also after a failure."""
        ...


def fingerprint(run: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits, the same for a run that goes on, others for another run.

    The head of the SHA-256 of what makes a run the same run (`saejax.results.workdir.IDENTITY`), as
    JSON.

    Args:
        run: what `run.json` holds.
    """
    same = json.dumps({name: run.get(name) for name in IDENTITY}, sort_keys=True)
    return hashlib.sha256(same.encode()).hexdigest()[:12]


def curves(
    coords: Coords, measured: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Name and finite numbers of every cell that trains: a curve ends where its cell was frozen.

    Args:
        coords: values along each axis.
        measured: as of `Tracker.evaluation`.
    """
    scalars = {n: a for n, a in measured.items() if a.ndim == len(AXES) and n != "frozen_at"}
    for index in map(tuple, np.argwhere(measured["frozen_at"] == TRAINED).tolist()):
        values = {name: float(a[index]) for name, a in scalars.items() if np.isfinite(a[index])}
        yield cell_name(coords, index), values


def heat_maps(result: Result) -> Iterator[tuple[str, str, bytes]]:
    """Name, caption and PNG of every heat map of the run's report."""
    from saejax.results.figures import heatmaps, variants

    for variant in variants(result):
        for name, caption, figure in heatmaps(result, variant):
            image = io.BytesIO()
            figure.savefig(image, format="png", dpi=120)
            yield name, caption, image.getvalue()
