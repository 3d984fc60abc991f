"""Checkpoints of a pytree of arrays: written in the background, atomically, the newest few kept.

A tree is stored as a flat table from the path of a leaf (`['opt'][0].mu...`) to its array, so that
any pytree can be kept and nothing but arrays is ever read back. Beside it lies what tells a whole
checkpoint from a damaged one: every leaf's dtype, shape and fingerprint.

    1200/               a checkpoint, named by its step
    1300.orbax-...      one that is being written, or whose writer was killed
    .deleted/           one that is being deleted
"""

import errno
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from saejax.core.checks import check_whole
from saejax.core.fingerprint import ALLOWED, bits, fingerprints

_ARRAYS = "arrays"
_DELETED = ".deleted"


class DamagedCheckpoint(ValueError):
    """A checkpoint whose files are not what was written; `reason` says what is wrong."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: got a damaged checkpoint ({reason}), allowed: a whole one")
        self.reason = reason


class Checkpoints:
    """The newest `keep` checkpoints in a folder, written by one process or all of a run together.

    A context manager: leaving it waits for the checkpoint that is being written. What a killed
    writer left unfinished is removed at the start.
    """

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        self.folder = Path(folder).absolute()
        self._keep = check_whole("keep", keep, "a whole number, 1 or more", lambda v: v >= 1)
        self._writing = -1  # the step, -1 for none
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        self._clear()
        # A checkpoint is moved away in one go before its files are deleted: a process killed while
        # deleting leaves no half of it under its name.
        options = ocp.CheckpointManagerOptions(max_to_keep=self._keep, todelete_subdir=_DELETED)
        return ocp.CheckpointManager(
            self.folder, options=options, item_handlers={_ARRAYS: ocp.StandardCheckpointHandler()}
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, _: Any, error: BaseException | None, traceback: Any) -> None:
        try:
            self.wait()
        except OSError as failed:
            if error is None:
                raise
            # Not raised, or it would hide the error that ends the run.
            warnings.warn(str(failed), stacklevel=2)
        finally:
            self._manager.close()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint on disk, oldest first."""
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())

    def _common_steps(self) -> list[int]:
        """The steps that the first process sees: a network disk may show others to others."""
        steps = self.steps()
        if jax.process_count() == 1:
            return steps
        padded = np.full(64, -1, np.int32)
        padded[: len(steps)] = steps[-64:]
        return [int(step) for step in multihost_utils.broadcast_one_to_all(padded) if step >= 0]

    def save(self, step: int, tree: Any) -> None:
        """Starts to write a tree, once the write before is done.

        When this returns the arrays may be overwritten or donated. The checkpoint appears under its
        step when it is on disk whole. With several processes JAX arrays are those of all of them
        together, and NumPy arrays are the same in each.

        Raises:
            ValueError: for a step that is not above the newest, and a leaf whose dtype cannot be
                kept.
            TypeError: for a leaf that is no array.
            OSError: when the write before failed, or this one does not fit on the disk. The newest
                whole checkpoint is kept, and named.
        """
        table = _table(tree)
        for name, leaf in table.items():
            if not isinstance(leaf, np.ndarray | jax.Array):
                raise TypeError(f"{name}: got {type(leaf).__name__}, allowed: an array")
            if not bits(leaf.dtype):
                raise ValueError(f"{name}: got {leaf.dtype}, allowed: {ALLOWED}")
        newest = max(*self._common_steps(), self._writing, -1)
        if step <= newest:
            raise ValueError(
                f"step: got {step}, allowed: above {newest}, the newest in {self.folder}"
            )
        self.wait()
        size = sum(leaf.nbytes for leaf in table.values())
        free = shutil.disk_usage(self.folder).free
        if not _everywhere(size <= free):
            sizes = f"{size / 1e6:.1f} MB do not fit into {free / 1e6:.1f} MB free"
            raise self._failure(step, sizes)
        record = _record(table)
        # Orbax refuses arrays without elements; the record has all there is to know of them.
        arrays = ocp.args.StandardSave({name: leaf for name, leaf in table.items() if leaf.size})
        args = ocp.args.Composite(**{_ARRAYS: arrays})
        try:
            # Without `force` orbax decides by rules of its own whether a step is saved.
            self._manager.save(step, args=args, custom_metadata=record, force=True)
        except Exception as error:
            self._reopen()
            raise self._failure(step, _short(error)) from error
        self._writing = step

    def wait(self) -> None:
        """Waits until the last checkpoint is on disk whole and those beyond `keep` are deleted.

        Raises:
            OSError: when it could not be written, naming the newest whole one.
        """
        step, self._writing = self._writing, -1
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._reopen()
            raise self._failure(step, _short(error)) from error
        self._clear()

    def newest(self, like: Callable[[int], Any]) -> tuple[int, Any] | None:
        """The step and the tree of the newest whole checkpoint; None where there are none at all.

        A warning names each newer one that is damaged. It is deleted, because the run will come to
        that step again. `like` makes of a step a tree as `restore` takes it.

        Raises:
            ValueError: where none is whole, with the reason of each; nothing is deleted then. Also
                for a tree of other paths, shapes or dtypes.
        """
        self.wait()
        damaged: dict[int, str] = {}
        for step in reversed(self._common_steps()):
            try:
                tree = self.restore(like(step), step)
            except DamagedCheckpoint as error:
                damaged[step] = error.reason
                continue
            for bad, reason in damaged.items():
                warnings.warn(
                    f"{self.folder / str(bad)}: the checkpoint of step {bad} is damaged "
                    f"({reason}) and deleted; going on from step {step}",
                    stacklevel=2,
                )
                self._manager.delete(bad)
            self._clear()
            return step, tree
        if damaged:
            reasons = "; ".join(f"step {step}: {reason}" for step, reason in damaged.items())
            raise ValueError(
                f"{self.folder}: got no whole checkpoint ({reasons}), allowed: another workdir, or "
                "this one without that folder, to start again"
            )
        return None

    def restore(self, like: Any, step: int) -> Any:
        """The tree that was saved at a step, bit for bit.

        Args:
            like: a tree of the same paths, shapes and dtypes. Where it has NumPy arrays, NumPy
                arrays come back; where JAX arrays or `jax.ShapeDtypeStruct`, JAX arrays, laid out
                by their `NamedSharding`, or without one on no device in particular.
            step: its name.

        Raises:
            FileNotFoundError: where there is no such checkpoint.
            ValueError: naming the leaf, for a tree of other paths, shapes or dtypes.
            DamagedCheckpoint: for files that are not what was written.
        """
        if step not in (steps := self._common_steps()):
            raise FileNotFoundError(f"step: got {step}, allowed in {self.folder}: {steps}")
        wanted = _table(like)
        for name, leaf in wanted.items():
            canonical = jax.dtypes.canonicalize_dtype(leaf.dtype)
            if not isinstance(leaf, np.ndarray) and canonical != leaf.dtype:
                raise ValueError(f"{name}: got {leaf.dtype}, allowed: of NumPy arrays only")
        saved = self._agreed(step, lambda: _read_record(self._manager, step))
        for name in sorted(wanted.keys() | saved.keys()):
            got, kept = _what(wanted.get(name)), saved.get(name, {}).get("what", "nothing")
            if got != kept:
                raise ValueError(f"{name}: got {got}, allowed: {kept} (checkpoint at step {step})")
        folder = self._manager.directory / str(step) / _ARRAYS
        arrays = self._agreed(step, lambda: _read_arrays(folder, wanted))
        self._agreed(step, lambda: _compare(arrays, saved))
        return jax.tree.unflatten(jax.tree.structure(like), list(arrays.values()))

    def _agreed(self, step: int, read: Callable[[], Any]) -> Any:
        """What `read` returns, if it does in every process: they go on together or not at all."""
        result, problem = None, None
        try:
            result = read()
        except (MemoryError, PermissionError, jax.errors.JaxRuntimeError):
            # These say nothing about the files, which must not be deleted for them.
            raise
        except Exception as error:
            problem = error
        if not _everywhere(problem is None):
            reason = _short(problem) if problem else "another process cannot read it"
            raise DamagedCheckpoint(self.folder / str(step), reason) from problem
        return result

    def _failure(self, step: int, reason: str) -> OSError:
        left = max(self.steps(), default=None)
        kept = "none is there" if left is None else f"the newest whole one is kept, of step {left}"
        message = f"{self.folder}: got no checkpoint of step {step} written ({reason}); {kept}"
        return OSError(message)

    def _reopen(self) -> None:
        """Opens the folder anew after a failed write, whose leftovers would fill the disk."""
        with suppress(Exception):  # from the write that is reported already
            self._manager.close()
        self._manager = self._open()

    def _clear(self) -> None:
        """Removes what is left of checkpoints that nobody writes or deletes any more."""
        if jax.process_index() == 0 and self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name == _DELETED or ocp.utils.TMP_DIR_SUFFIX in path.name:
                    # Network disks keep files that are open under another name for a while.
                    shutil.rmtree(path, ignore_errors=True)


def _table(tree: Any) -> dict[str, Any]:
    """Leaves by their path, in the order of the tree."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _what(leaf: Any) -> str:
    return "nothing" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"


def _record(table: dict[str, Any]) -> dict[str, Any]:
    """What a table must be like when it is read, with a checksum of the record itself."""
    words = fingerprints(table)
    leaves = {n: {"what": _what(leaf), "words": list(words[n])} for n, leaf in table.items()}
    return {"leaves": leaves, "crc32": _crc32(leaves)}


def _crc32(leaves: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(leaves, sort_keys=True).encode())


def _read_record(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """The leaves that `_record` describes."""
    record = manager.metadata(step).custom_metadata
    if not record or _crc32(record["leaves"]) != record["crc32"]:
        raise ValueError("its fingerprints are missing or damaged")
    return record["leaves"]


def _compare(arrays: dict[str, Any], saved: dict[str, Any]) -> None:
    words = fingerprints(arrays)
    wrong = [name for name in arrays if list(words[name]) != saved[name]["words"]]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: not the bits that were saved")


def _read_arrays(folder: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """The arrays, or the parts on this process's devices where they are spread over several.

    Not read by orbax's manager: that waits for the others, for ever where one of them met damage.
    """

    def target(leaf: Any) -> Any:
        if isinstance(getattr(leaf, "sharding", None), jax.sharding.NamedSharding) and leaf.size:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
        # Read as NumPy arrays: JAX arrays of orbax are bound to a device, and what was compiled for
        # unbound ones would be compiled again.
        return np.empty(leaf.shape, leaf.dtype)

    targets = {name: target(leaf) for name, leaf in wanted.items()}
    table = targets | ocp.StandardCheckpointHandler().restore(
        folder, args=ocp.args.StandardRestore({n: a for n, a in targets.items() if a.size})
    )
    return {
        name: table[name] if isinstance(leaf, np.ndarray) else jnp.asarray(table[name])
        for name, leaf in wanted.items()
    }


def _everywhere(ok: bool) -> bool:
    """Whether something is so in every process."""
    return bool(np.all(multihost_utils.process_allgather(np.array(ok))))


def _short(error: Exception) -> str:
    """What an error says, cut short: messages of orbax may be pages long."""
    text, full = str(error) or type(error).__name__, os.strerror(errno.ENOSPC)
    return full if full in text else " ".join(text.split())[:300]
