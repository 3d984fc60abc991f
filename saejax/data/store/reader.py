"""Reading a store of activations: rows by number, from memory maps.

Rows are numbered through all shards, so nothing that is read depends on where one shard ends.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32

from saejax.data.store.manifest import (
    DTYPES,
    Manifest,
    StoreConfig,
    check_contents,
    open_arrays,
    read_manifest,
)

# Rows of a block. Fixed, so that a sum over blocks rounds alike whatever the size of the shards.
BLOCK = 4096
Rows = Int[np.ndarray, " n"] | Sequence[int]


class Store:
    """A finished store, open for reading by any number of processes. Made by `Store.open`.

    Attributes:
        path: its folder.
        config: what its rows are.
        checksum: identity of the data, equal for equal files.
    """

    def __init__(self, path: Path, manifest: Manifest, arrays: dict[str, list[np.ndarray]]) -> None:
        self.path = path
        self.config: StoreConfig = manifest.config
        self.checksum: str = manifest.checksum
        self._rows = manifest.rows
        self._arrays = arrays

    @classmethod
    def open(cls, path: str | Path, verify: bool = False) -> "Store":
        """Opens a store after checking that its files have the right sizes, dtypes and shapes.

        The rows stay on disk; only their files' headers are read. With `verify` all files are read
        and their checksums compared too.

        Raises:
            FileNotFoundError: when the folder holds no store.
            ValueError: naming the file, when the harvest has not ended or a file is truncated,
                altered, missing or extra.
        """
        path, manifest = Path(path), read_manifest(path)
        if not manifest.complete:
            raise ValueError(
                f"store: got {str(path)!r}, an unfinished harvest of {manifest.rows} rows; "
                "allowed: a finished one (the same harvest, started again, continues it)"
            )
        arrays = open_arrays(path, manifest)
        if verify:
            check_contents(path, manifest)
        return cls(path, manifest, arrays)

    def __len__(self) -> int:
        return self._rows

    @property
    def d(self) -> int:
        """Width of a row."""
        return self.config.d

    def rows(self, indices: Rows) -> Float32[np.ndarray, "n d"]:
        """Activations of rows in any order, repeats allowed, widened to float32 without loss.

        An IndexError for a number outside 0 ... len - 1.
        """
        return self.stored_rows(indices).astype(np.float32, copy=False)

    def stored_rows(self, indices: Rows) -> Float[np.ndarray, "n d"]:
        """As `rows`, in the dtype of the store: half the bytes to move where it has 16 bits."""
        return self._gather("activations", indices).view(DTYPES[self.config.dtype][0])

    def token_ids(self, indices: Rows) -> Int32[np.ndarray, " n"]:
        """The token at each row, as `rows`; a ValueError for a store without tokens."""
        return self._gather("token_ids", indices)

    def positions(self, indices: Rows) -> Int32[np.ndarray, " n"]:
        """The position of each row in its sequence, as `token_ids`."""
        return self._gather("positions", indices)

    def context(self, row: int, before: int, after: int) -> tuple[Int32[np.ndarray, " n"], int]:
        """Tokens around a row, up to `before` and `after` it, cut at the ends of its sequence.

        Neighbouring rows belong to one sequence as long as their positions go up by one. Returned
        are the token ids, and which of them is the row's. Raises as `token_ids`.
        """
        around = np.arange(max(0, row - before), min(len(self), row + after + 1))
        here = int(self.positions([row])[0])
        same = self.positions(around) - here == around - row
        left = same[: row - around[0]][::-1]
        right = same[row - around[0] :]
        first = row - int(np.cumprod(left).sum())
        last = row + int(np.cumprod(right).sum())
        return self.token_ids(np.arange(first, last)), row - first

    def blocks(self) -> Iterator[Float32[np.ndarray, "n d"]]:
        """All rows in order, a few thousand at a time."""
        for start in range(0, len(self), BLOCK):
            yield self.rows(np.arange(start, min(start + BLOCK, len(self))))

    def mean(self) -> Float64[np.ndarray, " d"]:
        """Mean over all rows, summed in float64."""
        total = np.zeros(self.d)
        for block in self.blocks():
            total += block.sum(0, dtype=np.float64)
        return total / len(self)

    def _gather(self, name: str, indices: Rows) -> np.ndarray:
        if name not in self._arrays:
            raise ValueError(
                f"store: got {str(self.path)!r}, which keeps no {name}; allowed: one that does"
            )
        rows = np.asarray(indices, np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(
                f"indices: got {rows.min()} to {rows.max()}, allowed: 0 to {len(self) - 1}, the "
                f"rows of {str(self.path)!r}"
            )
        parts = self._arrays[name]
        out = np.empty((len(rows), *parts[0].shape[1:]), parts[0].dtype)
        # In the order of the disk, so that a page is read once and readahead serves the next row.
        order = np.argsort(rows, kind="stable")
        shards, within = np.divmod(rows[order], self.config.rows_per_shard)
        touched, starts = np.unique(shards, return_index=True)
        ends = np.append(starts, len(rows))[1:]
        for shard, a, b in zip(touched, starts, ends, strict=True):
            out[order[a:b]] = parts[shard].take(within[a:b], axis=0)
        return out
