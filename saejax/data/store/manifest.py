"""The description of a store, its files, and checks that they are as they were written.

    manifest.json            the description and every file's size and checksum
    shard-00000/             rows 0 ... rows_per_shard - 1
      activations.npy        [rows, d]; bfloat16, which .npy has no name for, as the uint16 of its
                             bits
      token_ids.npy          [rows] int32, the token at each row
      positions.npy          [rows] int32, its position in its sequence
    shard-00001/             the rows after, and so on; the last shard may be shorter

Checksums are SHA-256. CRC-32 is three times as fast (7 against 2 GB/s where it was measured), but
both outrun the disk; SHA-256 can be checked without this library (`sha256sum`), and it is an
identity: the manifest's own checksum names the data that a study was trained on.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from saejax.core.checks import check_choice, check_switch, check_whole_fields
from saejax.core.diff import differences
from saejax.core.files import sha256_of

FORMAT = 1
MANIFEST = "manifest.json"
# How each dtype is computed with, and how it lies in a file.
DTYPES = {
    "float32": (np.dtype(np.float32), np.dtype(np.float32)),
    "float16": (np.dtype(np.float16), np.dtype(np.float16)),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), np.dtype(np.uint16)),
}
TOKEN_ARRAYS = ("token_ids", "positions")


@dataclass(frozen=True)
class StoreConfig:
    """What the rows of a store are. Two harvests with equal configurations write the same rows.

    Args:
        model: what made the activations (model, weights, text, tokenizer), JSON types.
        hook: name of the hook point.
        d: width of a row.
        dtype: of the stored activations. "float32" keeps what a model computes. "float16" takes
            half the space at a relative error up to 2^-11 and holds numbers up to 65504; "bfloat16"
            has the range of float32 and an error up to 2^-8, none for a model that computes in it.
        rows_per_shard: rows of every shard but the last. A writer holds one shard in memory, and
            what an interruption loses is less than one.
        has_tokens: whether token ids and positions are kept beside the rows.
    """

    model: Mapping[str, Any]
    hook: str
    d: int
    dtype: str = "float32"
    rows_per_shard: int = 65536
    has_tokens: bool = True

    def __post_init__(self) -> None:
        try:
            if not isinstance(self.model, Mapping):
                raise TypeError
            model = json.loads(json.dumps(dict(self.model), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"model: got {self.model!r}, allowed: a dict of JSON types") from error
        object.__setattr__(self, "model", model)
        if not isinstance(self.hook, str) or not self.hook:
            raise ValueError(f"hook: got {self.hook!r}, allowed: the name of a hook point")
        check_whole_fields(self, {"d": 1, "rows_per_shard": 1})
        check_choice("dtype", self.dtype, ", ".join(DTYPES), DTYPES)
        check_switch("has_tokens", self.has_tokens)

    def differences(self, other: "StoreConfig") -> list[str]:
        """What another configuration has otherwise: lines `name: got X, allowed: Y`, Y as here."""
        return differences(asdict(other), asdict(self))

    def layout(self, rows: int) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """Dtype and shape of each array of a shard with this many rows."""
        arrays: dict[str, Any] = {"activations": (DTYPES[self.dtype][1], (rows, self.d))}
        tokens = TOKEN_ARRAYS if self.has_tokens else ()
        return arrays | {name: (np.dtype(np.int32), (rows,)) for name in tokens}


@dataclass(frozen=True)
class File:
    """Size in bytes and SHA-256 of a file, as it was written."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Shard:
    """Number of rows of a shard and its files by array name."""

    rows: int
    files: Mapping[str, File]


@dataclass(frozen=True)
class Manifest:
    """The description of a store and its complete shards, in the order of their rows."""

    config: StoreConfig
    shards: tuple[Shard, ...] = ()
    complete: bool = False  # whether the harvest has come to its end

    @property
    def rows(self) -> int:
        """Number of rows in complete shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def checksum(self) -> str:
        """SHA-256 of the description and of all checksums: the identity of the data."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def files(self) -> Iterator[tuple[str, str, int, File]]:
        """(path in the store, array name, index of its shard, size and checksum) of every file."""
        for index, shard in enumerate(self.shards):
            for name, file in shard.files.items():
                yield f"{shard_name(index)}/{name}.npy", name, index, file

    def to_json(self) -> str:
        """The text of `manifest.json`, with its own checksum."""
        text = {"format": FORMAT, "sha256": self.checksum, "manifest": asdict(self)}
        return json.dumps(text, indent=1)


def shard_name(index: int) -> str:
    """Folder of a shard."""
    return f"shard-{index:05d}"


def read_manifest(path: str | Path) -> Manifest:
    """The manifest of a store, finished or not.

    Raises:
        FileNotFoundError: when the folder holds no store.
        ValueError: naming the file, when it is truncated, altered or of another format.
    """
    file = Path(path) / MANIFEST
    if not file.is_file():
        raise FileNotFoundError(f"store: got {str(path)!r}, which holds no {MANIFEST}")
    try:
        outer = json.loads(file.read_bytes())
        version = outer["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: got text cut short or altered ({error}), allowed: JSON"
        ) from error
    if version != FORMAT:
        raise ValueError(f"{file}: got the format {version!r}, allowed: {FORMAT}")
    try:
        inner = outer["manifest"]
        shards = tuple(
            Shard(shard["rows"], {name: File(**f) for name, f in shard["files"].items()})
            for shard in inner["shards"]
        )
        manifest = Manifest(StoreConfig(**inner["config"]), shards, inner["complete"])
        intact = outer["sha256"] == manifest.checksum
    # Any error may come of altered text.
    except Exception as error:
        raise ValueError(f"{file}: got altered text ({error!r}), allowed: as written") from error
    if not intact:
        got, written = manifest.checksum, outer["sha256"]
        raise ValueError(f"{file}: got text of SHA-256 {got}, allowed: {written}, as written")
    return manifest


def open_arrays(path: Path, manifest: Manifest) -> dict[str, list[np.ndarray]]:
    """Memory maps of every array of every shard, by array name.

    Checks sizes, dtypes and shapes, and that no file is missing or extra, by a ValueError that
    names the file; for the contents see `check_contents`.
    """
    listed = {name for name, *_ in manifest.files()}
    extra = {file.relative_to(path).as_posix() for file in path.glob("shard-*/*.npy")} - listed
    if extra:
        raise ValueError(
            f"{path / min(extra)}: got a file that {MANIFEST} does not list, allowed: listed files"
        )
    arrays: dict[str, list[np.ndarray]] = {}
    for relative, name, index, file in manifest.files():
        dtype, shape = manifest.config.layout(manifest.shards[index].rows)[name]
        arrays.setdefault(name, []).append(_map(path / relative, file.bytes, dtype, shape))
    return arrays


def _map(file: Path, size: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if not file.is_file():
        raise ValueError(f"{file}: got no file, allowed: the {size} bytes that {MANIFEST} lists")
    got = file.stat().st_size
    if got != size:
        raise ValueError(f"{file}: got {got} bytes, allowed: {size} bytes, as written")
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    # A damaged header makes the parser raise nearly anything.
    except Exception as error:
        raise ValueError(f"{file}: got a damaged header ({error}), allowed: as written") from error
    by_columns = "" if array.flags.c_contiguous else " by columns"
    if array.dtype != dtype or array.shape != shape or by_columns:
        raise ValueError(
            f"{file}: got {array.dtype} of shape {array.shape}{by_columns}, allowed: {dtype} of "
            f"shape {shape}"
        )
    # A plain view: the subclass costs four times the gather of unsorted rows itself.
    return np.asarray(array)


def check_contents(path: Path, manifest: Manifest) -> None:
    """Reads every file and compares its checksum; a ValueError names the first that differs."""
    for relative, _, _, file in manifest.files():
        got = sha256_of(path / relative)
        if got != file.sha256:
            raise ValueError(
                f"{path / relative}: got contents of SHA-256 {got}, allowed: {file.sha256}, as "
                "written"
            )
