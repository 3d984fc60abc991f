"""Checkpoints of a pytree of arrays: written atomically, the newest few kept. The only user of orbax.

A tree is stored as a flat table from the path of a leaf ("['opt'][0].mu...") to its array, so that
any pytree can be kept and nothing but arrays is ever read back.
"""

from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from saejax.checks import check_whole


class Checkpoints:
    """The checkpoints of one folder; a context manager.

    Args:
        folder: where they lie, a subfolder for each step; made where it is absent.
        keep: how many of the newest are kept.

    Raises:
        ValueError: `keep: got X, allowed: ...`.
    """

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        self.folder = Path(folder).absolute()
        keep = check_whole("keep", keep, "a whole number, 1 or more", lambda v: v >= 1)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(
            self.folder, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """The steps that have a whole checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, tree: Any) -> None:
        """Writes a tree; when this returns it is on disk whole, and before that absent.

        Raises:
            ValueError: for a step that has a checkpoint already.
        """
        if step in self.steps():
            raise ValueError(f"step: got {step}, allowed: one without a checkpoint in {self.folder}")
        self._manager.save(step, args=ocp.args.StandardSave(_table(tree)))

    def restore(self, like: Any, step: int | None = None) -> Any:
        """A tree of the shapes of `like` with the arrays of a step, bit for bit those saved.

        Args:
            like: a tree of arrays or `jax.ShapeDtypeStruct`.
            step: which; None for the newest.

        Raises:
            FileNotFoundError: where there is no such checkpoint.
            ValueError: naming the leaf, for a tree of other paths, shapes or dtypes.
        """
        steps = self.steps()
        step = step if step is not None else max(steps, default=None)
        if step not in steps:
            raise FileNotFoundError(f"step: got {step}, allowed in {self.folder}: {steps}")
        wanted, saved = _table(like), self._saved(step)
        for name in sorted(wanted.keys() | saved.keys()):
            got, allowed = (_what(table.get(name)) for table in (wanted, saved))
            if got != allowed:
                raise ValueError(f"{name}: got {got}, allowed: {allowed} (checkpoint at step {step})")
        # Read as NumPy arrays: those that orbax puts on a device are bound to it, and what was compiled
        # for arrays that are not would be compiled again.
        target = {name: np.empty(a.shape, a.dtype) for name, a in wanted.items()}
        table = self._manager.restore(step, args=ocp.args.StandardRestore(target))
        leaves = [jnp.asarray(table[name]) for name in wanted]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def _saved(self, step: int) -> dict[str, Any]:
        return dict(self._manager.item_metadata(step).items())


def _table(tree: Any) -> dict[str, Any]:
    """Leaves by their path, in the order of the tree."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _what(leaf: Any) -> str:
    return "nothing" if leaf is None else f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
