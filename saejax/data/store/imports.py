"""Importing activations that others have saved into a store."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from saejax.data.store.manifest import StoreConfig
from saejax.data.store.reader import Store
from saejax.data.store.writer import StoreWriter

# Rows that are read at a time.
BLOCK = 8192
FLOATS = {"float16", "bfloat16", "float32", "float64"}
SAFETENSORS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


class Table(NamedTuple):
    """Rows in a file, and how a range of them is read."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[int, int], np.ndarray]


def import_arrays(
    paths: Sequence[str | Path],
    store_path: str | Path,
    *,
    model: Mapping[str, Any],
    hook: str,
    dtype: str = "float32",
    rows_per_shard: int = 65536,
    tensor: str | None = None,
) -> Store:
    """Copies activations from .npy and .safetensors files into a store, a block of rows at a time.

    An import that was interrupted continues when it is started again with the same arguments. The
    store keeps no token ids.

    Args:
        paths: the files in the order of their rows, each [rows, d] of float16, bfloat16, float32 or
            float64.
        store_path: folder of the store.
        model: what made the activations, JSON types; the names and shapes of the files are added.
        hook: name of the hook point.
        dtype: of the stored activations, see `StoreConfig`.
        rows_per_shard: likewise.
        tensor: name of the activations in .safetensors files; None where each holds one tensor.

    Raises:
        ValueError: naming the file: before anything is written for another kind of file, a damaged
            one, a shape that is not [rows, d] or empty, another width than the first file's or no
            float dtype; where the import stops, for a number that the store's dtype cannot hold.
        FileNotFoundError: naming the file.
        FileExistsError, BlockingIOError, OSError: as `StoreWriter` does.
    """
    if isinstance(paths, str | Path) or not paths:
        raise ValueError(f"paths: got {paths!r}, allowed: a sequence of 1 file or more")
    tables = [_table(Path(path), tensor) for path in paths]
    for table in tables:
        _check(table, tables[0])
    files = [{"name": t.file.name, "dtype": t.dtype, "shape": list(t.shape)} for t in tables]
    about = {**model, "files": files}
    d = tables[0].shape[1]
    config = StoreConfig(about, hook, d, dtype, rows_per_shard, has_tokens=False)
    with StoreWriter(store_path, config) as writer:
        done = writer.rows_stored
        for table in tables:
            rows = table.shape[0]
            for start in range(min(done, rows), rows, BLOCK):
                block = table.read(start, min(start + BLOCK, rows))
                try:
                    writer.append(block)
                except ValueError as error:
                    raise ValueError(f"{table.file}, rows from {start} on: {error}") from error
            done -= min(done, rows)
        writer.finish()
    return Store.open(store_path)


def _check(table: Table, first: Table) -> None:
    if table.dtype not in FLOATS:
        raise ValueError(f"{table.file}: got {table.dtype}, allowed: {', '.join(sorted(FLOATS))}")
    if len(table.shape) != 2 or 0 in table.shape:
        raise ValueError(f"{table.file}: got shape {table.shape}, allowed: [rows, d], not empty")
    if table.shape[1] != first.shape[1]:
        raise ValueError(
            f"{table.file}: got d={table.shape[1]}, allowed: {first.shape[1]}, as {first.file}"
        )


def _table(file: Path, tensor: str | None) -> Table:
    if file.suffix not in (".npy", ".safetensors"):
        raise ValueError(f"{file}: got a {file.suffix!r} file, allowed: .npy, .safetensors")
    if not file.is_file():
        raise FileNotFoundError(f"{file}: got no file, allowed: an existing one")
    return _npy(file) if file.suffix == ".npy" else _safetensors(file, tensor)


def _npy(file: Path) -> Table:
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    # A damaged header makes the parser raise nearly anything.
    except Exception as error:
        raise ValueError(f"{file}: got a damaged file ({error}), allowed: a .npy array") from error
    return Table(file, array.dtype.name, array.shape, lambda a, b: np.asarray(array[a:b]))


def _safetensors(file: Path, tensor: str | None) -> Table:
    try:
        opened = safe_open(file, framework="numpy")
    except SafetensorError as error:
        raise ValueError(f"{file}: got a damaged file ({error}), allowed: .safetensors") from error
    names = sorted(opened.keys())
    if tensor is None and len(names) != 1:
        raise ValueError(
            f"tensor: got None, allowed with {file}: {', '.join(names) or 'no tensor'}"
        )
    if tensor is not None and tensor not in names:
        raise ValueError(f"tensor: got {tensor!r}, allowed with {file}: {', '.join(names)}")
    rows = opened.get_slice(tensor or names[0])
    dtype = str(rows.get_dtype())
    shape = tuple(rows.get_shape())
    return Table(file, SAFETENSORS.get(dtype, dtype), shape, lambda a, b: rows[a:b])
