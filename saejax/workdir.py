"""Whose a workdir is: a folder for one run, written by one process at a time, never for another run."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from saejax.architectures import ReLU
from saejax.differences import differences

# Held by the process that writes a workdir; an empty file.
LOCK = ".lock"
CHECKPOINTS = "checkpoints"
# What makes a run the same run.
SAME = ("coords", "d_sae", "settings", "architectures", "metrics", "data", "study")
# Flags of a process, not of a run.
PROCESS_FLAGS = {
    "dry_run", "distributed", "coordinator", "num_processes", "process_id", "compilation_cache"
}  # fmt: skip
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


def leftover(path: Path) -> bool:
    """Whether a file is what a killed process may leave of its lock or of an unfinished write."""
    return path.name == LOCK or bool(re.fullmatch(r"\..+\.part\..*", path.name))


def lock(path: Path) -> FileLock:
    """A workdir for this process alone, until the lock is released or the process ends.

    Raises:
        BlockingIOError: when another process has it.
    """
    own = FileLock(path / LOCK)
    try:
        own.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(
            f"workdir: got {str(path)!r}, which another process is using; allowed: a folder of its own"
        ) from None
    # Stages in folders below have locks of their own.
    for folder in (path, path / "dictionaries", path / "snapshots"):
        for part in folder.glob(".*.part.*"):
            if part.is_file():
                part.unlink()
    return own


def release(own: FileLock) -> None:
    """Lets other processes have a workdir, and leaves no trace of the lock; twice is fine."""
    if not own.is_locked:
        return
    with suppress(OSError):  # Windows keeps a file that is open; it is in nobody's way.
        # While it is still held: whoever opened it meanwhile finds it unlinked, and opens the next one.
        Path(own.lock_file).unlink()
    own.release()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A folder for this process alone, while inside.

    Raises:
        BlockingIOError: when another process has it.
    """
    own = lock(path)
    try:
        yield
    finally:
        release(own)


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
