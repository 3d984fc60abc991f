"""What the formats share: folders that are whole or absent, files that are as they must be."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from saejax.sae import Params, SAEConfig, standard


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
        f"folder: got {str(path)!r}, which {what}; allowed: a folder that is new or empty (nothing is "
        "ever overwritten)"
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


def as_float32(array: Any) -> np.ndarray:
    """A copy in float32 that lies in memory in the order of its axes."""
    return np.array(array, np.float32, order="C")


def take(tensors: Mapping[str, Any], names: Sequence[str], path: Path) -> dict[str, Any]:
    """Exactly the named tensors, in float32.

    Raises:
        ValueError: naming the file and the first tensor that is missing or not known.
    """
    allowed = f"allowed: {', '.join(names)}"
    for name in names:
        if name not in tensors:
            raise ValueError(f"{path}: got no tensor {name}, {allowed}")
    for name in tensors:
        if name not in names:
            raise ValueError(f"{path}: got the tensor {name}, {allowed}")
    return {name: as_float32(tensors[name]) for name in names}


def logarithm(threshold: np.ndarray) -> np.ndarray:
    """`log_threshold` of a threshold; one of 0 or less acts as 0, whose logarithm is minus infinity."""
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(threshold, 0))


def seeing_centred(params: Params) -> Params:
    """Weights of an encoder that sees x, for one that sees `x - b_dec` (`saejax.sae.standard`)."""
    moved = standard(params, SAEConfig(apply_b_dec_to_input=False))
    return Params(*(None if a is None else np.asarray(a) for a in moved))  # pyright: ignore


def seeing_plain(params: Params) -> Params:
    """The way back from `seeing_centred`."""
    assert params.b_dec is not None
    return seeing_centred(params._replace(b_dec=-params.b_dec))._replace(b_dec=params.b_dec)
