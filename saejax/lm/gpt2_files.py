"""GPT-2's tensors in safetensors files: finding, checking and reading them.

    model.safetensors                                     all tensors, or
    model.safetensors.index.json, model-00001-of-...      which file holds which, and these files

Tensors carry the names of `GPT`, with `weight` for its `kernel`, `scale` and `embedding`, and with
or without `transformer.` before them, depending on the class that saved them. Files of older
versions hold the causal masks too, and some hold the embedding a second time as the unembedding
that is tied to it.

Source: the files of openai-community/gpt2 and what transformers' `save_pretrained` writes.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from safetensors import SafetensorError, safe_open

from saejax.core.files import read_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = ("F32", "F16", "BF16")
PREFIX = "transformer."
EMBEDDING, UNEMBEDDING = "wte.weight", "lm_head.weight"
# Causal masks, which the forward pass makes itself.
BUFFERS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
# Rows of the unembedding that are compared with the embedding at a time.
BLOCK = 4096


class Stored(NamedTuple):
    """A tensor in a file: the open file, and what it says of the tensor."""

    path: Path
    file: Any
    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the weights, and before them the index where they are several.

    As in transformers, `model.safetensors` goes before an index beside it.

    Raises:
        FileNotFoundError: naming what is missing.
        ValueError: for an index that is damaged or names files outside the folder.
    """
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(
            f"{folder}: got neither {WEIGHTS} nor {INDEX}, allowed: one of them"
        )
    for name, file in (places := _places(folder)).items():
        if not (folder / file).is_file():
            raise FileNotFoundError(f"{folder / file}: missing; {INDEX} says that it holds {name}")
    return (folder / INDEX, *(folder / file for file in sorted(set(places.values()))))


def _places(folder: Path) -> dict[str, str]:
    """The file of each tensor, as the index has it."""
    path = folder / INDEX
    try:
        places = dict(read_json(path, "a model")["weight_map"])
        outside = {file for file in places.values() if Path(file).name != file}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: got a damaged file ({error!r}), allowed: an index") from error
    if outside:
        raise ValueError(
            f"{path}: got the file {min(outside)!r}, allowed: names of files beside it"
        )
    return places


def open_tensors(files: Sequence[Path]) -> dict[str, Stored]:
    """The tensors in the `weight_files` by their name in `GPT`, not read yet; without causal masks.

    Raises:
        ValueError: naming the file, where it is damaged; naming the tensor, where it is stored
            twice or not where the index has it.
    """
    tensors: dict[str, Stored] = {}
    held: dict[str, str] = {}
    for path in files:
        if path.name == INDEX:
            continue
        try:
            # Read on demand and not mapped into memory, where what was read would stay.
            opened = safe_open(path, framework="numpy", backend="pread")
        except SafetensorError as error:
            raise ValueError(
                f"{path}: got a damaged file ({error}), allowed: .safetensors"
            ) from error
        for stored in sorted(opened.keys()):
            part = opened.get_slice(stored)
            tensor = Stored(path, opened, stored, str(part.get_dtype()), tuple(part.get_shape()))
            held[stored] = path.name
            name = stored.removeprefix(PREFIX)
            if name in tensors:
                raise ValueError(f"{tensor}: got it twice, allowed: once (also as {tensors[name]})")
            if not BUFFERS.fullmatch(name):
                tensors[name] = tensor
    if files[0].name == INDEX:
        _check_index(files[0], _places(files[0].parent), held)
    return tensors


def _check_index(path: Path, listed: Mapping[str, str], held: Mapping[str, str]) -> None:
    for name in sorted(listed.keys() | held.keys()):
        if listed.get(name) != held.get(name):
            raise ValueError(
                f"{path}: {name}: got it in {held.get(name, 'no file')}, allowed: in "
                f"{listed.get(name, 'no file')}, as the index has it"
            )


def tensor_name(path: Any) -> str:
    """The name in the files of a leaf of `GPT`, such as `h.0.attn.c_attn.weight`."""
    *modules, kind, _ = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
    return ".".join((*modules, "bias" if kind == "bias" else "weight"))


def check_tensors(
    folder: Path, tensors: Mapping[str, Stored], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Checks that the files of a folder hold the tensors of a model's shapes and nothing else.

    Of their contents only a tied unembedding is read.

    Raises:
        ValueError: naming the tensor: missing, unknown, of another shape, of a dtype that is no
            float of 16 or 32 bits; an unembedding that is not the embedding.
    """
    missing = sorted(shapes.keys() - tensors.keys())
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        problem = f"got no such tensor{more}, allowed: all of GPT-2's"
        raise ValueError(f"{folder}: {missing[0]}: {problem}")
    tied = {**shapes, UNEMBEDDING: shapes[EMBEDDING]}
    for name, tensor in tensors.items():
        if name not in tied:
            raise ValueError(
                f"{tensor}: got a tensor that GPT-2 of this config.json does not have, allowed: "
                "its own"
            )
        if tensor.shape != tied[name]:
            raise ValueError(f"{tensor}: got shape {tensor.shape}, allowed: {tied[name]}")
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{tensor}: got {tensor.dtype}, allowed: {', '.join(DTYPES)}")
    if UNEMBEDDING in tensors:
        _check_tied(tensors[UNEMBEDDING], tensors[EMBEDDING])


def _check_tied(head: Stored, embedding: Stored) -> None:
    parts = [tensor.file.get_slice(tensor.name) for tensor in (head, embedding)]
    rows = head.shape[0]
    for start in range(0, rows, BLOCK):
        # Unlike NumPy's, these slices may not go beyond the end.
        a, b = (part[start : min(start + BLOCK, rows)] for part in parts)
        if not np.array_equal(a, b):
            raise ValueError(
                f"{head}: got other numbers than {embedding.name}, allowed: equal to it (tied), "
                "or none"
            )


def read_tensor(tensor: Stored, dtype: str) -> Float[Array, "..."]:
    """One tensor on the device, rounded to a dtype; a ValueError where a number is not finite."""
    array = tensor.file.get_tensor(tensor.name)
    if not np.isfinite(array).all():
        raise ValueError(f"{tensor}: got a number that is not finite, allowed: finite weights")
    return jnp.asarray(array, dtype)
