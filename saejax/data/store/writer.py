"""Writing a store of activations so that it can be interrupted at any moment.

A shard is written into a folder beside its place, handed to the disk (fsync) and renamed: it is
whole or absent. Then a manifest that lists it takes the place of the old one; that is the moment
from which the shard counts. Whatever else an interruption leaves is removed by the next writer.
"""

import io
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from saejax.data.store.durable import LOCK, lock_folder, sync_folder, write_file, write_npy
from saejax.data.store.manifest import (
    DTYPES,
    MANIFEST,
    TOKEN_ARRAYS,
    Manifest,
    Shard,
    StoreConfig,
    check_contents,
    open_arrays,
    read_manifest,
    shard_name,
)

PART = ".part"


class StoreWriter:
    """The one writer of a store: starts it, or continues one that was interrupted.

        with StoreWriter(path, config) as writer:
            for x, token_ids, positions in harvest(skip=writer.rows_stored):
                writer.append(x, token_ids, positions)
            writer.finish()

    Rows must come in the same order every time: a harvest that continues skips the first
    `rows_stored`. The files are then the same as those of a harvest in one go. Leaving the block
    without `finish` keeps the complete shards and drops the rows after them.

    Args:
        path: a folder that is absent, empty or an unfinished store of the same configuration.
        config: what the rows are.

    Raises:
        BlockingIOError: when another writer has the store open, naming its process. The lock goes
            with the process, so one that was killed does not block.
        FileExistsError: when the store is finished or the folder holds other files.
        ValueError: naming what differs in the configuration, or a complete shard that is not as it
            was written.
    """

    def __init__(self, path: str | Path, config: StoreConfig) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._check_folder()
        self._lock: io.TextIOWrapper | None = lock_folder(self.path)
        try:
            self._manifest = self._started(config)
        except BaseException:
            self.close()
            raise
        self._buffer = {
            name: np.empty(s, t) for name, (t, s) in config.layout(config.rows_per_shard).items()
        }
        self._filled = 0

    @property
    def config(self) -> StoreConfig:
        """What the rows are."""
        return self._manifest.config

    @property
    def rows_stored(self) -> int:
        """Rows in complete shards: what a harvest that starts again may skip."""
        return self._manifest.rows

    def append(
        self,
        activations: Float[np.ndarray, "n d"],
        token_ids: Int[np.ndarray, " n"] | None = None,
        positions: Int[np.ndarray, " n"] | None = None,
    ) -> None:
        """Adds rows; a shard is written whenever one is full.

        Args:
            activations: the rows, rounded to the dtype of the store.
            token_ids: the token at each row, None in a store without tokens.
            positions: the position of each row in its sequence, likewise.

        Raises:
            ValueError: naming the argument, before any of its rows is taken: for another width or
                length, numbers that are not finite in the dtype of the store, negative or too large
                integers.
            OSError: when a shard cannot be written, for instance on a full disk. The store is as
                before the shard, the writer is closed, and the harvest can be started again.
        """
        self._check_open()
        new = self._checked(activations, {"token_ids": token_ids, "positions": positions})
        n, done = len(activations), 0
        while done < n:
            take = min(n - done, self.config.rows_per_shard - self._filled)
            for name, array in new.items():
                self._buffer[name][self._filled : self._filled + take] = array[done : done + take]
            self._filled += take
            done += take
            if self._filled == self.config.rows_per_shard:
                self._write_shard()

    def finish(self) -> None:
        """Writes the last shard, compares the checksums of all files, and ends the store.

        Raises:
            ValueError: for a store without rows, and when a file is not as it was written.
            OSError: as in `append`.
        """
        self._check_open()
        if self._filled:
            self._write_shard()
        if not self.rows_stored:
            raise ValueError(f"store: got no row for {str(self.path)!r}, allowed: 1 or more")
        check_contents(self.path, self._manifest)
        self._guarded(lambda: self._commit(replace(self._manifest, complete=True)), MANIFEST, 0)
        self.close()

    def close(self) -> None:
        """Lets the next writer in; rows after the last complete shard are dropped."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._lock is None:
            raise ValueError(
                f"store: got a closed writer of {str(self.path)!r}, allowed: an open one"
            )

    def _check_folder(self) -> None:
        """Refuses a folder of something else before anything in it is touched."""
        names = {path.name for path in self.path.iterdir()} - {LOCK, MANIFEST + PART}
        if names and MANIFEST not in names:
            raise FileExistsError(
                f"store: got {str(self.path)!r}, which holds other files ({min(names)}) and no "
                f"{MANIFEST}; allowed: a folder that is new, empty or a store"
            )

    def _started(self, config: StoreConfig) -> Manifest:
        manifest = self._on_disk()
        if manifest is None:
            self._manifest = Manifest(config)
            self._guarded(lambda: self._commit(self._manifest), MANIFEST, 0)
            return self._manifest
        different = manifest.config.differences(config)
        if different:
            raise ValueError(
                f"store: got {str(self.path)!r} to continue with another configuration; "
                + "; ".join(different)
            )
        if manifest.complete:
            raise FileExistsError(
                f"store: got {str(self.path)!r}, a finished store of {manifest.rows} rows; "
                "allowed: a folder that is new, empty or an unfinished harvest"
            )
        self._sweep()
        open_arrays(self.path, manifest)
        return manifest

    def _on_disk(self) -> Manifest | None:
        return read_manifest(self.path) if (self.path / MANIFEST).exists() else None

    def _checked(self, activations: Any, tokens: dict[str, Any]) -> dict[str, np.ndarray]:
        """The rows in the dtypes of the files."""
        config = self.config
        if activations.ndim != 2 or activations.shape[1] != config.d:
            raise ValueError(
                f"activations: got shape {activations.shape}, allowed: [rows, d={config.d}]"
            )
        dtype, stored = DTYPES[config.dtype]
        with np.errstate(over="ignore"):
            rounded = activations.astype(dtype, copy=False)
        finite = np.isfinite(rounded).all(-1)
        if not finite.all():
            row = int(np.argmin(finite))
            bad = activations[row][~np.isfinite(rounded[row])][0]
            raise ValueError(
                f"activations: got {bad} in row {row}, allowed: numbers finite in {config.dtype}"
            )
        new = {"activations": rounded.view(stored)}
        for name in TOKEN_ARRAYS:
            array = tokens[name]
            if not config.has_tokens and array is None:
                continue
            rows = f"a number for each of {len(rounded)} rows"
            if not config.has_tokens:
                problem = "got an array, allowed: None in a store without tokens"
            elif array is None:
                problem = f"got None, allowed: {rows}"
            elif array.shape != (len(rounded),):
                problem = f"got shape {array.shape}, allowed: {rows}"
            elif array.size and (array.min() < 0 or array.max() >= 2**31):
                problem = f"got {array.min()} to {array.max()}, allowed: 0 to 2**31 - 1"
            else:
                new[name] = array
                continue
            raise ValueError(f"{name}: {problem}")
        return new

    def _write_shard(self) -> None:
        arrays = {name: array[: self._filled] for name, array in self._buffer.items()}
        name = shard_name(len(self._manifest.shards))
        size = sum(array.nbytes for array in arrays.values())

        def write() -> None:
            part = self.path / (name + PART)
            part.mkdir()
            files = {key: write_npy(part / f"{key}.npy", array) for key, array in arrays.items()}
            sync_folder(part)
            part.rename(self.path / name)
            sync_folder(self.path)
            shards = (*self._manifest.shards, Shard(self._filled, files))
            self._commit(replace(self._manifest, shards=shards))

        self._guarded(write, name, size)
        self._filled = 0

    def _commit(self, manifest: Manifest) -> None:
        """Puts a manifest in the place of the old one."""
        part = self.path / (MANIFEST + PART)
        write_file(part, manifest.to_json().encode())
        os.replace(part, self.path / MANIFEST)
        self._manifest = manifest
        sync_folder(self.path)

    def _guarded(self, write: Callable[[], None], what: str, size: int) -> None:
        """Runs a write; if it fails, removes what it left, and closes."""
        try:
            write()
        except BaseException as error:
            try:
                self._sweep()
            finally:
                self.close()
            if not isinstance(error, OSError):
                raise
            free = shutil.disk_usage(self.path).free
            raise OSError(
                error.errno,
                f"store {str(self.path)!r}: {what} ({size} bytes) was not written: "
                f"{error.strerror or error}; {free} bytes are free. The store holds "
                f"{self.rows_stored} rows as before; the same harvest, started again, continues "
                "from there",
            ) from error

    def _sweep(self) -> None:
        """Removes what an interrupted write leaves: the next shard, unless the manifest lists it.

        The manifest on disk decides, not the one in memory: Ctrl-C may come between the two.
        """
        manifest = self._on_disk()
        name = shard_name(len(manifest.shards) if manifest else 0)
        for folder in (name, name + PART):
            if (self.path / folder).exists():
                shutil.rmtree(self.path / folder)
        (self.path / (MANIFEST + PART)).unlink(missing_ok=True)
