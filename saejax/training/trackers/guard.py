"""Trackers beside a run: what they do never stops it, and never holds it up."""

import time
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from saejax.results.result import Result
from saejax.results.workdir import Coords
from saejax.training.trackers.interface import Tracker

# Seconds that a run waits at its end for what its trackers have still to do.
PATIENCE = 60.0


class _Beside:
    """One tracker in a thread of its own, which takes its calls one after another.

    Calls wait in a queue without bound: they refer to arrays that a run keeps anyway.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._calls: SimpleQueue[tuple[str, tuple]] = SimpleQueue()
        self._failure: BaseException | None = None
        self._told = False
        # A daemon, so that the end of the process waits for nobody who hangs.
        self._thread = Thread(target=self._work, daemon=True, name=f"tracker {self._name}")
        self._thread.start()

    @property
    def _name(self) -> str:
        return type(self._tracker).__name__

    def _work(self) -> None:
        method = ""
        while method != "close":
            method, arguments = self._calls.get()
            if self._failure is None or method == "close":
                try:
                    getattr(self._tracker, method)(*arguments)
                except BaseException as failure:
                    self._failure = self._failure or failure

    def call(self, method: str, *arguments: Any) -> None:
        """Has a method called when the calls before it are done."""
        self._tell()
        self._calls.put((method, arguments))

    def wait(self, until: float, patience: float) -> None:
        """Waits for the last call, until a time of `time.monotonic`, `patience` after it was
        made."""
        self._thread.join(max(0.0, until - time.monotonic()))
        self._tell()
        if self._thread.is_alive():
            self._warn(f"has not ended after {patience:g} s and is left behind")

    def _tell(self) -> None:
        """Says in the thread of the run, once, that the tracker failed."""
        failure = self._failure
        if failure is None or self._told:
            return
        self._told = True
        self._warn(f"failed, and the run goes on without it: {type(failure).__name__}: {failure}")

    def _warn(self, text: str) -> None:
        warnings.warn(f"tracker {self._name}: {text}", stacklevel=4)


class Tracking:
    """All trackers of a run; a context manager that closes them.

    A tracker works in a thread of its own: a slow one is waited for at the end alone, and no longer
    than `patience`. The first exception of a tracker becomes a warning in the thread of the run,
    and of its further calls only `close` is made. That goes for SystemExit too: Ctrl-C and signals
    arrive in the main thread, so that what a tracker raises is never the user's wish to end.

    Args:
        trackers: none is fine.
        patience: seconds that `close` waits at most for all of them together.
    """

    def __init__(self, trackers: Sequence[Tracker], patience: float = PATIENCE) -> None:
        self._beside = [_Beside(tracker) for tracker in trackers]
        self._patience = patience

    def start(self, run: Mapping[str, Any], coords: Coords, d_sae: tuple[int, ...]) -> None:
        """See `Tracker.start`; the run's description is copied, because it is filled as a run
        goes."""
        self._all("start", deepcopy(dict(run)), coords, d_sae)

    def evaluation(
        self, step: int, coords: Coords, d_sae: tuple[int, ...], measured: Mapping[str, np.ndarray]
    ) -> None:
        """See `Tracker.evaluation`."""
        self._all("evaluation", step, coords, d_sae, measured)

    def finish(self, result: Result) -> None:
        """See `Tracker.finish`."""
        self._all("finish", result)

    def close(self) -> None:
        """See `Tracker.close`; waits until the trackers are done, or for `patience`."""
        self._all("close")
        until = time.monotonic() + self._patience
        for each in self._beside:
            each.wait(until, self._patience)
        self._beside = []

    def _all(self, method: str, *arguments: Any) -> None:
        for each in self._beside:
            each.call(method, *arguments)

    def __enter__(self) -> "Tracking":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
