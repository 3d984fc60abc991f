"""Files that outlast a power cut, and a folder that one process writes at a time."""

import fcntl
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from saejax.data.store.manifest import File

LOCK = ".lock"


def sync_folder(path: Path) -> None:
    """Makes what was renamed in a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, *parts: Any) -> File:
    """Writes a file durably, and returns what it must hold when it is read back."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for part in parts:
            file.write(part)
            digest.update(part)
        file.flush()
        os.fsync(file.fileno())
    return File(sum(len(part) for part in parts), digest.hexdigest())


def write_npy(path: Path, array: np.ndarray) -> File:
    """Writes an array as .npy, else as `write_file`."""
    # Not np.save: its error for a full disk has no errno, and the checksum would need a reading.
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return write_file(path, header.getvalue(), array.data.cast("B"))


def lock_folder(path: Path) -> io.TextIOWrapper:
    """The store's lock file with the number of this process in it, locked until it is closed.

    It is never removed: another writer could otherwise lock a file that is no longer there.
    """
    file = open(path / LOCK, "a+", encoding="ascii")  # noqa: SIM115 - held as long as the writer
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        other = file.read().strip()
        file.close()
        raise BlockingIOError(
            f"store: got {str(path)!r}, which process {other} is writing; allowed: one writer at "
            "a time"
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
