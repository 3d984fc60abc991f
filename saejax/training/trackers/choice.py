"""Trackers by name."""

from collections.abc import Callable, Sequence
from pathlib import Path

from saejax.training.trackers.interface import Tracker
from saejax.training.trackers.tensorboard import TensorBoard
from saejax.training.trackers.wandb import WandB

# Each puts its files into a folder of its own in the workdir.
NAMED: dict[str, Callable[[Path], Tracker]] = {
    "tensorboard": lambda workdir: TensorBoard(workdir / "tensorboard"),
    "wandb": lambda workdir: WandB(dir=workdir),
}


def as_trackers(
    trackers: Sequence[str | Tracker], workdir: str | Path | None
) -> tuple[Tracker, ...]:
    """Trackers that are ready to start; nothing is written yet.

    Args:
        trackers: names ("tensorboard", "wandb") or objects with the methods of `Tracker`.
        workdir: of the run; those given by name write there. None where it has none.

    Raises:
        ValueError: for an unknown or repeated name, a name without a workdir, and as the trackers
            do.
        TypeError: for an object that lacks a method, and for a single name in place of several.
        ImportError: where a package is needed.
    """
    if isinstance(trackers, str):
        raise TypeError(f"trackers: got {trackers!r}, allowed: several, like [{trackers!r}]")
    names = [each for each in trackers if isinstance(each, str)]
    for name in names:
        if name not in NAMED:
            raise ValueError(f"trackers: got {name!r}, allowed: {', '.join(NAMED)}")
        if names.count(name) > 1:
            raise ValueError(f"trackers: got {name!r} twice, allowed: each once")
        if workdir is None:
            raise ValueError(
                f"trackers: got {name!r} in a run without a workdir, allowed: with one"
            )
    for each in trackers:
        if not isinstance(each, str | Tracker):
            raise TypeError(
                f"trackers: got {type(each).__name__}, allowed: {', '.join(NAMED)}, or an object "
                "with the methods start, evaluation, finish and close"
            )
    return tuple(
        NAMED[each](Path(workdir or "")) if isinstance(each, str) else each for each in trackers
    )
