"""Saving and resuming a run."""

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from saejax.core.programs import shape_of
from saejax.training.chunk import State
from saejax.training.plan import Plan
from saejax.training.state import Progress, empty

if TYPE_CHECKING:
    from saejax.core.checkpoints import Checkpoints

# Without `checkpoint_every`: what a killed process loses at most, besides the chunk it was in.
SECONDS = 300.0


class Keeper:
    """Saves a run's progress when it is time; a context manager.

    Args:
        folder: where the checkpoints lie.
        plan: of the run.
        every: steps between checkpoints, None for one each `SECONDS`.
        keep: how many of the newest are kept.
    """

    def __init__(self, folder: Path, plan: Plan, every: int | None, keep: int) -> None:
        self._folder, self._plan, self._every, self._keep = folder, plan, every, keep
        self._last = time.monotonic()
        self._saved = -1
        self._opened: Checkpoints | None = None

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            self._opened.__exit__(kind, error, at)
            self._opened = None

    def close(self) -> None:
        """Waits for what is being written, and is done with the folder.

        Raises:
            OSError: when it could not be written.
        """
        self.__exit__(None, None, None)

    @property
    def _checkpoints(self) -> "Checkpoints":
        """Opened when there is something to read or write: most runs are over before."""
        if self._opened is None:
            from saejax.core.checkpoints import Checkpoints  # orbax takes a second to import

            self._opened = Checkpoints(self._folder, self._keep)
        return self._opened

    def restore(self, progress: Progress, chunk: Any) -> bool:
        """Puts the newest progress that was saved whole in the place of a fresh one.

        Args:
            progress: of a run that has not begun.
            chunk: its compiled chunk, which says what one measures.

        Returns:
            Whether there was any.

        Raises:
            ValueError: where there are checkpoints but none is whole.
        """
        if not _first_process_says(self._folder.exists()):
            return False
        if not _first_process_says(bool(self._checkpoints.steps())):
            return False
        _, (measured, *_), taken = chunk.out_info
        shapes = jax.tree.map(shape_of, (progress.state.cells, progress.state.matches))
        # What is read takes the place of the fresh arrays, and does not lie beside them.
        progress.state = State((), (), ())
        found = self._checkpoints.newest(lambda step: self._like(shapes, step, measured, taken))
        assert found is not None  # there are steps
        progress.done, tree = found
        self._saved = progress.done
        spare = empty(self._plan, tree["groups"])
        progress.state = State(tree["groups"], spare, tree["matches"])
        n = progress.done // self._plan.settings.eval_every
        progress.history = [{name: a[i] for name, a in tree["history"].items()} for i in range(n)]
        progress.snapshots = [tree["snapshots"]] if taken is not None else []
        progress.seconds = tree["seconds"].tolist()
        return True

    def chunk_done(self, progress: Progress) -> None:
        """Saves where it is time.

        Raises:
            OSError: when this or an earlier checkpoint could not be written.
        """
        if self._every is None:
            due = _first_process_says(time.monotonic() - self._last >= SECONDS)
        else:
            due = progress.done % self._every == 0
        # The last state is kept until the results are written, where anything was.
        last = progress.done == self._plan.settings.steps and (self._every or self._saved >= 0)
        if due or last:
            self.save(progress)

    def save(self, progress: Progress) -> None:
        """Saves, in the background, unless this very progress is saved already."""
        if progress.done == self._saved:
            return
        state = progress.state
        tree = {
            "groups": state.cells,
            "matches": state.matches,
            "history": {n: np.stack([h[n] for h in progress.history]) for n in progress.history[0]},
            "seconds": np.array(progress.seconds),
        }
        if progress.snapshots:
            tree["snapshots"] = jax.tree.map(lambda *a: np.concatenate(a), *progress.snapshots)
        self._checkpoints.save(progress.done, tree)
        self._last, self._saved = time.monotonic(), progress.done

    def wait(self) -> None:
        """Returns when everything saved is on disk whole.

        Raises:
            OSError: when it could not be written.
        """
        self._checkpoints.wait()

    def _like(
        self, shapes: tuple[Any, Any], step: int, measured: Mapping[str, Any], taken: Any
    ) -> dict[str, Any]:
        """A tree of the shapes that a step's checkpoint has."""
        settings, axes = self._plan.settings, self._plan.shape
        n = step // settings.eval_every
        like = {
            "groups": shapes[0],
            "matches": shapes[1],
            "history": {
                name: np.empty((n, *axes, *a.shape[3:]), a.dtype) for name, a in measured.items()
            },
            "seconds": np.empty(n),
        }
        if taken is not None:
            n_taken = step // settings.snapshot_every + 1
            like["snapshots"] = jax.tree.map(
                lambda a: np.empty((n_taken, *a.shape[1:]), a.dtype), taken
            )
        return like


def _first_process_says(yes: bool) -> bool:
    """Clocks and views of the disk differ between processes, which must save and read together."""
    if jax.process_count() == 1:
        return yes
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.bool_(yes)))
