"""dictionary_learning's layout: config.json and ae.pt, the state dict of one of its classes.

    ours          theirs                   tensors
    relu          AutoEncoder              encoder.weight = W_enc.T, encoder.bias, decoder.weight =
                                           W_dec.T, bias = b_dec
    topk          AutoEncoderTopK          likewise, with b_dec for bias; k, threshold
    batchtopk     BatchTopKSAE             likewise
    jumprelu      JumpReluAutoEncoder      W_enc, b_enc, W_dec, b_dec, threshold
    gated         GatedAutoEncoder         encoder.weight, decoder.weight, gate_bias = b_enc, r_mag,
                                           mag_bias = b_mag, decoder_bias = b_dec
    matryoshka    MatryoshkaBatchTopKSAE   W_enc, b_enc, W_dec, b_dec, k, threshold, group_sizes

Their JumpReluAutoEncoder sees x where ours sees `x - b_dec`: its b_enc is ours minus b_dec @ W_enc,
and ours is theirs plus that. AutoEncoderNew (read only) sees x too, and has b_dec as decoder.bias.
Their thresholds are those of an activation, ours of jumprelu logarithms: a threshold of 0 or less
is 0, others come back to a few units in the last place. An SAE without b_dec gets one of zeros.

Their `AutoEncoder.from_pretrained` scales decoder rows to norm 1 and activations with them unless
it is called with `normalize_decoder=False`; reconstructions stay the same.

A TopK SAE's threshold stands for a mode of theirs that ours lacks: -1, as they write it where none
was learned. Of Matryoshka SAEs `metadata["matryoshka_widths"]` are the sizes of the nested
dictionaries; where they are not known, the dictionary is one group.

ae.pt is a file of torch, which this module needs. It is read with `weights_only`: nothing in it is
run.

Source: github.com/saprmarks/dictionary_learning, `dictionary.py`, `trainers/` and `utils.py`.
"""

import io
import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from saejax.core.checks import check_whole
from saejax.core.files import read_json, write_bytes, write_text
from saejax.export.folder import as_float32, for_others, logarithm, seeing_centred, take
from saejax.sae.params import Params
from saejax.sae.trained import SAE

CONFIG = "config.json"
WEIGHTS = "ae.pt"
FILES = (CONFIG, WEIGHTS)

CLASSES = {
    "relu": "AutoEncoder",
    "topk": "AutoEncoderTopK",
    "batchtopk": "BatchTopKSAE",
    "jumprelu": "JumpReluAutoEncoder",
    "gated": "GatedAutoEncoder",
    "matryoshka": "MatryoshkaBatchTopKSAE",
}
KINDS = {theirs: ours for ours, theirs in CLASSES.items()} | {"AutoEncoderNew": "relu"}
PLAIN = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
# Some of theirs keep their products as `nn.Linear`, whose weights are transposed.
LINEAR = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec"}
GATED = {"encoder.weight": "W_enc", "gate_bias": "b_enc", "decoder.weight": "W_dec"}
THRESHOLD = {"threshold": "threshold"}
# The field of `Params` that a tensor of theirs is, or becomes.
TENSORS = {
    "AutoEncoder": LINEAR | {"bias": "b_dec"},
    "AutoEncoderNew": LINEAR | {"decoder.bias": "b_dec"},
    "AutoEncoderTopK": LINEAR | {"b_dec": "b_dec"},
    "BatchTopKSAE": LINEAR | {"b_dec": "b_dec"} | THRESHOLD,
    "JumpReluAutoEncoder": PLAIN | THRESHOLD,
    "GatedAutoEncoder": GATED | {"decoder_bias": "b_dec", "r_mag": "r_mag", "mag_bias": "b_mag"},
    "MatryoshkaBatchTopKSAE": PLAIN | THRESHOLD,
}
COUNTED = ("topk", "batchtopk", "matryoshka")
SEES_X = ("JumpReluAutoEncoder", "AutoEncoderNew")
UNLEARNED = -1.0


def save(sae: SAE, folder: Path) -> None:
    """Writes the files of an SAE into a folder; errors as `saejax.export.formats.save`."""
    torch = _torch()
    theirs = CLASSES[sae.architecture]
    params, state = for_others(sae, theirs in SEES_X), {}
    for name, field in TENSORS[theirs].items():
        array = np.asarray(getattr(params, field))
        state[name] = torch.tensor(as_float32(array.T if name.endswith(".weight") else array))
    trainer: dict[str, Any] = {"dict_class": theirs}
    trainer |= {"activation_dim": sae.d_in, "dict_size": sae.d_sae}
    if sae.architecture in COUNTED:
        k = check_whole("k", sae.k, f"1 or more in a {theirs}", lambda v: v >= 1)
        state["k"], trainer["k"] = torch.tensor(k, dtype=torch.int), k
    if sae.architecture == "topk":
        state["threshold"] = torch.tensor(UNLEARNED)
    if sae.architecture == "matryoshka":
        sizes = _group_sizes(sae)
        state["group_sizes"], trainer["group_sizes"] = torch.tensor(sizes), sizes
    config = {
        "trainer": trainer | _model(sae.metadata),
        "buffer": {"ctx_len": sae.metadata.get("context_size")},
        "metadata": dict(sae.metadata),
    }
    write_text(folder / CONFIG, json.dumps(config, indent=1))
    out = io.BytesIO()
    torch.save(state, out)
    write_bytes(folder / WEIGHTS, out.getvalue())


def load(folder: Path) -> SAE:
    """The SAE in a folder; errors as `saejax.export.formats.load`."""
    path = folder / WEIGHTS
    config = read_json(folder / CONFIG)
    trainer = dict(config.get("trainer") or {})
    theirs = trainer.get("dict_class")
    if theirs not in KINDS:
        raise ValueError(
            f"{folder / CONFIG}: trainer.dict_class: got {theirs!r}, allowed: {', '.join(KINDS)}"
        )
    kind, state = KINDS[theirs], _read(path)
    metadata = dict(config.get("metadata") or {"trainer": trainer})
    k = 0
    if kind in COUNTED:
        stored = state.pop("k", trainer.get("k"))
        k = check_whole(f"{path}: k", stored, "1 or more (a whole number)", lambda v: v >= 1)
    if kind == "topk":
        state.pop("threshold", None)
    if kind == "matryoshka" and "group_sizes" in state:
        metadata["matryoshka_widths"] = np.cumsum(state.pop("group_sizes")).tolist()
    state = {name: a.T if name.endswith(".weight") else a for name, a in state.items()}
    arrays = take(state, TENSORS[theirs], path)
    if kind == "jumprelu":
        arrays["log_threshold"] = logarithm(arrays.pop("threshold"))
    params = Params(**arrays)
    return SAE(seeing_centred(params) if theirs in SEES_X else params, kind, k, metadata)


def _torch() -> Any:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(f'{WEIGHTS} needs torch: pip install "saejax[interop]"') from error
    return torch


def _read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict; ValueError names a file that holds anything else."""
    torch = _torch()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    # What a damaged file does to its reader is anyone's guess.
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise ValueError(
            f"{path}: got a file that is no state dict ({first}), allowed: one"
        ) from error
    if not isinstance(state, Mapping) or not all(torch.is_tensor(a) for a in state.values()):
        raise ValueError(f"{path}: got {type(state).__name__}, allowed: a dict of tensors")
    return {name: (a.float() if a.is_floating_point() else a).numpy() for name, a in state.items()}


def _group_sizes(sae: SAE) -> list[int]:
    """Latents that each nested dictionary has beyond the one before it."""
    widths = sae.metadata.get("matryoshka_widths", [sae.d_sae])
    if widths[-1:] != [sae.d_sae] or any(a >= b for a, b in pairwise([0, *widths])):
        raise ValueError(
            f"matryoshka_widths: got {widths}, allowed: rising, above 0, the last d_sae={sae.d_sae}"
        )
    return [b - a for a, b in pairwise([0, *widths])]


def _model(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What their trainers say of the language model."""
    hook = metadata.get("hook_name") or ""
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook)
    # Their layers are those of the residual stream behind a block: that before block i is the one
    # behind block i - 1.
    layer = int(match[1]) - (match[2] == "hook_resid_pre") if match else None
    return {
        "lm_name": metadata.get("model_name") or "",
        "layer": layer,
        "submodule_name": hook or None,
        "device": "cpu",
    }
