"""GPT-2 from the files of the Hugging Face hub, or from files of the same format in a folder.

    config.json        its shape
    model.safetensors  its weights, or several files with an index, see `saejax.lm.gpt2_files`
    tokenizer.json     its vocabulary

The forward pass is `saejax.lm.model`'s, whose modules carry GPT-2's names and shapes: the fused and
not transposed products of its files are used as they are.

Source: "Language models are unsupervised multitask learners" (Radford et al., 2019).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from saejax.core.checks import check_choice, check_whole
from saejax.core.extras import require
from saejax.core.files import checksums, read_json
from saejax.core.precision import PRECISIONS, Precision
from saejax.lm import gpt2_files
from saejax.lm.model import GPT, GPTConfig, abstract_gpt
from saejax.lm.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OWNER = "openai-community"
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
# Blocks, width and attention heads.
SIZES = {
    "gpt2": (12, 768, 12),
    "gpt2-medium": (24, 1024, 16),
    "gpt2-large": (36, 1280, 20),
    "gpt2-xl": (48, 1600, 25),
}
# Commits of the published models that hold their weights in safetensors files.
REVISIONS = {
    "gpt2": "607a30d783dfa663caf39e06633721c8d4cfcd7e",
    "gpt2-medium": "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
    "gpt2-large": "32b71b12589c2f8d625668d2335a01cac3249519",
    "gpt2-xl": "15ea56dee5df4983c59b2538573817e1667135e2",
}
DTYPES = ("float32", "bfloat16")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
# What `GPT` computes; a config.json without one of these means this value.
ARCHITECTURE: dict[str, Any] = {
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True)
class Pretrained:
    """A model that others have trained.

    Attributes:
        model: its weights.
        folder: where its files lie.
        about: what the weights are, JSON types: `name`, the hub's, or that of a local folder;
            `revision`, the hub's commit, None for a folder; `dtype` of the weights; `config`;
            `files`, the size and SHA-256 of config.json and of all files of weights.
    """

    model: GPT
    folder: Path
    about: Mapping[str, Any]

    def tokenizer(self) -> Tokenizer:
        """The tokenizer in the model's folder, see `load_tokenizer`.

        Raises a ValueError also where it has more tokens than the model.
        """
        path, most = self.folder / TOKENIZER, self.model.config.vocab_size
        tokenizer = load_tokenizer(path)
        if tokenizer.get_vocab_size() > most:
            raise ValueError(
                f"{path}: got {tokenizer.get_vocab_size()} tokens, allowed: the model's {most} or "
                "fewer"
            )
        return tokenizer


def published_config(name: str, matmul_precision: Precision = "highest") -> GPTConfig:
    """Shape of gpt2 (124 million weights), gpt2-medium (355), gpt2-large (774), gpt2-xl (1558)."""
    n_layers, d, n_heads = SIZES[check_choice("name", name, ", ".join(SIZES), tuple(SIZES))]
    return GPTConfig(50257, 1024, n_layers, d, 4 * d, n_heads, matmul_precision=matmul_precision)


def load_gpt2(
    name: str | Path,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    matmul_precision: Precision = "highest",
) -> Pretrained:
    """GPT-2 with the weights of its files.

    Files hold weights of float32, float16 or bfloat16, and are read one tensor after the other.
    With `dtype="bfloat16"` the weights take half the memory, while the residual stream, the norms,
    the softmax and all sums stay in float32: what a layer adds to GPT-2's large stream would be
    lost below the 8 bits of bfloat16. Of `matmul_precision`, "highest" widens the weights to
    float32 first, "bf16" rounds the activations to bfloat16 and is the fast one.

    Args:
        name: a folder with config.json and the weights; gpt2, gpt2-medium, gpt2-large or gpt2-xl;
            or owner/name of a model of the hub. A folder goes before a model of its name.
        revision: commit, tag or branch of the hub's model. None: for the four published ones the
            commit in `REVISIONS`, for others the newest one. The commit is written in `about`.
        dtype: of the weights, float32 or bfloat16.
        matmul_precision: see `GPTConfig`.

    Raises:
        ValueError: naming the argument; the file and the field of config.json, for another
            architecture; the file and the tensor, for one that is missing, unknown, not finite or
            of another shape or dtype; or a file that is damaged.
        FileNotFoundError: naming the file that is missing.
        ImportError: for a name of the hub, where huggingface_hub is not installed.
        OSError: where the hub does not answer or has no such model.
    """
    check_choice("dtype", dtype, ", ".join(DTYPES), DTYPES)
    check_choice("matmul_precision", matmul_precision, ", ".join(PRECISIONS), PRECISIONS)
    if Path(name).is_dir():
        if revision is not None:
            raise ValueError(f"revision: got {revision!r}, allowed with a folder: None")
        folder, source = Path(name), {"name": Path(name).resolve().name, "revision": None}
    else:
        folder, source = _download(str(name), revision)
    config = replace(read_config(folder), matmul_precision=matmul_precision)
    files = gpt2_files.weight_files(folder)
    model = _read(folder, files, config, dtype)
    sums = checksums((folder / CONFIG, *files))
    about = {**source, "dtype": dtype, "config": asdict(config), "files": sums}
    return Pretrained(model, folder, about)


def _download(name: str, revision: str | None) -> tuple[Path, dict[str, str | None]]:
    """The folder of a model of the hub, with its name and commit."""
    full = f"{OWNER}/{name}" if name in SIZES else name
    if not HUB_ID.fullmatch(full):
        raise ValueError(
            f"name: got {name!r}, allowed: an existing folder, {', '.join(SIZES)}, or owner/name "
            "of a model of the hub"
        )
    owner, _, short = full.partition("/")
    if revision is None and owner == OWNER:
        revision = REVISIONS.get(short)
    what = f"name: got {name!r}, which is no folder; the hub"
    hub = require("huggingface_hub", "huggingface_hub", what, "lm")
    weights = [gpt2_files.WEIGHTS, gpt2_files.INDEX, "model-*-of-*.safetensors"]
    wanted = [CONFIG, TOKENIZER, *weights]
    folder = Path(hub.snapshot_download(full, revision=revision, allow_patterns=wanted))
    # The hub's cache keeps each commit in a folder of its name.
    return folder, {"name": full, "revision": folder.name}


def read_config(folder: Path) -> GPTConfig:
    """The shape that the config.json of a folder describes.

    Raises:
        FileNotFoundError: where there is no config.json.
        ValueError: naming the file and the field: another architecture than GPT-2, a variant that
            `GPT` does not compute, a number that is missing or none; a damaged file.
    """
    path = folder / CONFIG
    fields = read_json(path, "a model")
    for field, only in {"model_type": "gpt2", **ARCHITECTURE}.items():
        got = fields.get(field, ARCHITECTURE.get(field))
        if got != only:
            raise ValueError(f"{path}: {field}: got {got!r}, allowed: {only!r}")
    # The context was n_ctx before it was n_positions; without n_inner an MLP is four times as wide.
    fields = {"n_positions": fields.get("n_ctx"), "layer_norm_epsilon": 1e-5, **fields}
    if fields.get("n_inner") is None and isinstance(fields.get("n_embd"), int):
        fields["n_inner"] = 4 * fields["n_embd"]

    def size(field: str) -> int:
        return check_whole(field, fields.get(field), "a whole number, 1 or more", lambda v: v >= 1)

    ours = ("vocab_size", "context", "n_layers", "d_model", "d_mlp", "n_heads")
    theirs = ("vocab_size", "n_positions", "n_layer", "n_embd", "n_inner", "n_head")
    try:
        sizes = dict(zip(ours, map(size, theirs), strict=True))
        return GPTConfig(**sizes, layer_norm_eps=fields["layer_norm_epsilon"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(folder: Path, files: tuple[Path, ...], config: GPTConfig, dtype: str) -> GPT:
    leaves, structure = jax.tree.flatten_with_path(abstract_gpt(config))
    shapes = {gpt2_files.tensor_name(path): leaf.shape for path, leaf in leaves}
    tensors = gpt2_files.open_tensors(files)
    gpt2_files.check_tensors(folder, tensors, shapes)
    arrays = [gpt2_files.read_tensor(tensors[name], dtype) for name in shapes]
    return jax.tree.unflatten(structure, arrays)
