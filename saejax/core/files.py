"""Files that are whole or absent, and folders that one process writes at a time."""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

# An empty file, held by the process that writes a workdir.
LOCK = ".lock"


# Whole files


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


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed .npz file that is whole or absent."""
    write_whole(path, lambda part: np.savez_compressed(part, allow_pickle=False, **arrays))


# JSON


def read_json(path: Path, owner: str = "an SAE") -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: where there is no file, saying whose it is.
        ValueError: naming the file, where it is anything else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: got no file, allowed: the {path.name} of {owner}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: got a damaged file ({error}), allowed: JSON") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: got {type(value).__name__}, allowed: an object of JSON")
    return value


def sha256_of(path: Path) -> str:
    """SHA-256 of the contents of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Size in `bytes` and `sha256` of files, by name."""
    return {f.name: {"bytes": f.stat().st_size, "sha256": sha256_of(f)} for f in files}


def json_line(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON. NaN and infinities, which JSON lacks, become null."""

    def or_null(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps({name: or_null(value) for name, value in row.items()}) + "\n"


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends a line of JSON for each row and hands them to the operating system at once."""
    lines = [json_line(row) for row in rows]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(lines)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows that `append_rows` wrote, up to one that was cut short."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


# New folders


def in_the_way(path: Path, ignored: Callable[[Path], bool] | None = None) -> bool:
    """Whether something lies where a folder is to be written: a file, or a folder with something
    in it that is not `ignored`.
    """
    if not path.is_dir():
        return path.exists()
    return any(not (ignored and ignored(inside)) for inside in path.iterdir())


def check_new_folder(
    path: Path, message: str | None = None, ignored: Callable[[Path], bool] | None = None
) -> None:
    """Refuses a path unless nothing is there, or a folder without files but those `ignored`.

    Raises:
        FileExistsError: with the message; None says whether a file or a folder is in the way.
    """
    if in_the_way(path, ignored):
        what = "holds other files" if path.is_dir() else "is a file"
        raise FileExistsError(
            message
            or f"folder: got {str(path)!r}, which {what}; allowed: a folder that is new or empty "
            "(nothing is ever overwritten)"
        )


@contextmanager
def new_folder(
    path: Path, message: str | None = None, compare: Callable[[Path, Path], None] | None = None
) -> Iterator[Path]:
    """A folder that is written beside its place and moved there at the end: whole or absent.

    Args:
        path: its place, where nothing may be, or an empty folder.
        message: see `check_new_folder`.
        compare: checks what was written against what is in the way, which then stays as it is; None
            refuses whatever is in the way.

    Raises:
        FileExistsError: as `check_new_folder`; nothing is touched then.
        BlockingIOError: when another process is writing the same folder.
    """
    if compare is None:
        check_new_folder(path, message)
    place = path.absolute()
    beside = place.with_name(f".{place.name}.part.folder")
    beside.mkdir(parents=True, exist_ok=True)
    with held(beside):
        try:
            part = beside / place.name
            # What a killed process may have left.
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            yield part
            if compare is not None and in_the_way(place):
                compare(part, place)
                return
            if place.exists():
                place.rmdir()
            part.rename(place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


# Folders that one process writes at a time


def leftover(path: Path) -> bool:
    """Whether a file is what a killed process may leave of its lock or of an unfinished write."""
    return path.name == LOCK or bool(re.fullmatch(r"\..+\.part\..*", path.name))


def lock(path: Path) -> FileLock:
    """Locks a workdir for this process, until `release` or the end of the process.

    Raises:
        BlockingIOError: when another process has it.
    """
    file_lock = FileLock(path / LOCK)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(
            f"workdir: got {str(path)!r}, which another process is using; allowed: a folder of "
            "its own"
        ) from None
    # Other folders below may be those of stages, which have locks of their own.
    for folder in (path, path / "dictionaries", path / "snapshots"):
        for part in folder.glob(".*.part.*"):
            if part.is_file():
                part.unlink()
    return file_lock


def release(file_lock: FileLock) -> None:
    """Unlocks a workdir and removes the lock file; a second call does nothing."""
    if not file_lock.is_locked:
        return
    with suppress(OSError):  # Windows keeps a file that is open; it is in nobody's way.
        # While the lock is held: a process that has opened the file meanwhile sees that it is gone
        # and opens the next one.
        Path(file_lock.lock_file).unlink()
    file_lock.release()


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keeps a folder locked while inside.

    Raises:
        BlockingIOError: when another process has it.
    """
    file_lock = lock(path)
    try:
        yield
    finally:
        release(file_lock)
