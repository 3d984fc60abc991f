"""Files that are whole or absent, and folders that one process writes at a time."""

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from filelock import FileLock, Timeout


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file beside its place and moves it there, so that it is whole or absent."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file that is whole or absent."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a binary file that is whole or absent."""
    write_whole(path, lambda part: part.write_bytes(data))


def _plain(value: Any) -> Any:
    """A JSON value: NaN and infinities, which JSON lacks, become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_line(row: Mapping[str, Any]) -> str:
    return json.dumps({k: _plain(v) for k, v in row.items()}) + "\n"


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends a line of JSON for each row and hands them to the operating system at once."""
    lines = [json_line(row) for row in rows]
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
    write_whole(path, lambda part: np.savez_compressed(part, allow_pickle=False, **arrays))


# Held by the process that writes a workdir; an empty file.
LOCK = ".lock"


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
            f"workdir: got {str(path)!r}, which another process is using; allowed: a folder of "
            "its own"
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
        # While it is still held: whoever opened it meanwhile finds it unlinked, and opens the next
        # one.
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


def in_the_way(path: Path) -> bool:
    """Whether something lies where a folder is to be written."""
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def refuse(path: Path) -> NoReturn:
    """Says that something does.

    Raises:
        FileExistsError: always.
    """
    what = "holds other files" if path.is_dir() else "is a file"
    raise FileExistsError(
        f"folder: got {str(path)!r}, which {what}; allowed: a folder that is new or empty "
        "(nothing is ever overwritten)"
    )


@contextmanager
def part_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside a path, gone afterwards unless `settle` has moved it there."""
    part = path.with_name(f".{path.name}.part.{os.getpid()}")
    part.mkdir(parents=True)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def settle(part: Path, path: Path) -> None:
    """Moves a folder to where nothing is, or an empty one."""
    if path.exists():
        path.rmdir()
    part.rename(path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of JSON.

    Raises:
        FileNotFoundError: where there is no file.
        ValueError: naming the file, where it is anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: got no file, allowed: the {path.name} of an SAE")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: got a damaged file ({error}), allowed: JSON") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: got {type(found).__name__}, allowed: an object of JSON")
    return found
