"""SAELens's layout: cfg.json and sae_weights.safetensors.

    ours          what SAELens has for it
    relu          standard
    topk          topk
    batchtopk     jumprelu, the threshold repeated for every latent: what SAELens itself saves of a
                  BatchTopK SAE once its training is over
    matryoshka    likewise
    jumprelu      jumprelu, threshold = exp(log_threshold)
    gated         gated, b_gate = b_enc

Saved weights are float32. An SAE without b_dec gets one of zeros.

Read back is what SAELens wrote of these architectures, finished or as a checkpoint of a training:

- float16 and bfloat16 weights become float32, which holds them exactly; SAELens goes on computing
  in them and rounds accordingly.
- `apply_b_dec_to_input` off: b_enc + b_dec @ W_enc takes the place of b_enc, and b_mag likewise.
- `rescale_acts_by_decoder_norm` (k is chosen by activation times norm of the decoder row): W_enc
  and b_enc are multiplied by the norms and W_dec is divided by them, so activations are those of
  SAELens.
- `normalize_activations` "expected_average_only_in" with the factor s in activation_scaler.json, as
  a checkpoint has it: s W_enc, W_dec / s and b_dec / s see x instead of s x. Without the file the
  factor is not known, and the folder is refused. So are the other normalisations: they are not
  linear ("layer_norm", "constant_norm_rescale"), or gone from every finished SAE
  ("covariance_whitening").
- A jumprelu threshold of 0 or less is 0: the activations are a ReLU's before it looks at them.
  Others come back to a few units in the last place of float32, through their logarithm; where all
  are one number and the SAE was trained as BatchTopK, that number is kept as it is.
- "hook_z" SAEs see the heads of a sample as one row.

Transcoders and other architectures are refused.

Source: github.com/decoderesearch/SAELens, version 6.54, `saes/` and `loading/`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as serialized

from saejax.core.checks import check_number, check_whole
from saejax.core.files import read_json, write_bytes, write_text
from saejax.export.folder import as_float32, for_others, logarithm, seeing_centred, take
from saejax.sae.params import Params
from saejax.sae.trained import SAE

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
FILES = (CONFIG, WEIGHTS)
SCALER = "activation_scaler.json"
# Whose layout is written; below 6 SAELens would take it for an older one.
VERSION = "6.54.12"

# What SAELens calls the training of those architectures that it saves as jumprelu.
TRAINED_AS = {"batchtopk": "batchtopk", "matryoshka": "matryoshka_batchtopk"}
SAVED_AS = {"relu": "standard", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}
SAVED_AS |= dict.fromkeys(TRAINED_AS, "jumprelu")
KINDS = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}
KINDS |= {theirs: ours for ours, theirs in TRAINED_AS.items()}
# The field of `Params` that a tensor is.
SHARED = {"W_enc": "W_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
PLAIN = SHARED | {"b_enc": "b_enc"}
TENSORS = {
    "standard": PLAIN,
    "topk": PLAIN,
    "jumprelu": PLAIN | {"threshold": "threshold"},
    "gated": SHARED | {"b_gate": "b_enc", "r_mag": "r_mag", "b_mag": "b_mag"},
    **dict.fromkeys(TRAINED_AS.values(), PLAIN | {"topk_threshold": "threshold"}),
}
# What was called otherwise before version 6, and what was said there about the model.
RENAMED = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
ABOUT = ("model_name", "hook_name", "hook_head_index", "context_size", "prepend_bos")
ABOUT += ("dataset_path", "model_from_pretrained_kwargs", "neuronpedia_id")
ABOUT += ("sae_lens_training_version",)


def save(sae: SAE, folder: Path) -> None:
    """Writes the files of an SAE into a folder."""
    write_text(folder / CONFIG, json.dumps(_config(sae), indent=1))
    params, names = for_others(sae), TENSORS[SAVED_AS[sae.architecture]]
    if params.threshold is not None:
        params = params._replace(threshold=np.broadcast_to(params.threshold, sae.d_sae))
    tensors = {name: as_float32(getattr(params, field)) for name, field in names.items()}
    write_bytes(folder / WEIGHTS, serialized(tensors))


def _config(sae: SAE) -> dict[str, Any]:
    """What cfg.json holds."""
    metadata = {"sae_lens_training_version": None, **sae.metadata, "sae_lens_version": VERSION}
    if sae.architecture in TRAINED_AS:
        metadata["training_architecture"] = TRAINED_AS[sae.architecture]
        metadata["training_architecture_details"] = {"k": sae.k}
    config = {
        "architecture": SAVED_AS[sae.architecture],
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }
    if sae.architecture == "topk":
        config |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    return config


def load(folder: Path) -> SAE:
    """The SAE in a folder; errors as `saejax.export.formats.load`."""
    path, weights = folder / CONFIG, folder / WEIGHTS
    config = _current(read_json(path), path)
    theirs = config["architecture"]
    arrays = _read(weights, theirs)
    shape = (config.get("d_in"), config.get("d_sae"))
    if arrays["W_enc"].shape != shape:
        raise ValueError(
            f"{weights}: W_enc: got the shape {arrays['W_enc'].shape}, allowed: {shape}, the "
            f"d_in and d_sae of {CONFIG}"
        )
    metadata = dict(config.get("metadata") or {})
    kind, k = KINDS[theirs], _k(config, metadata, path)
    if theirs == "jumprelu":
        threshold = arrays.pop("threshold")
        trained = KINDS.get(metadata.get("training_architecture", ""))
        if trained in TRAINED_AS and (threshold == threshold[0]).all():
            kind, arrays["threshold"] = trained, threshold[0]
        else:
            arrays["log_threshold"] = logarithm(threshold)
    params = Params(**arrays)
    if config.get("rescale_acts_by_decoder_norm"):
        params = _rescaled(params, weights)
    if config["normalize_activations"] != "none":
        params = _unscaled(params, folder, config["normalize_activations"])
    if not config.get("apply_b_dec_to_input", True):
        params = seeing_centred(params)
    return SAE(params, kind, k, metadata)


def _current(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """A configuration as versions from 6 on write it; ValueError for one that cannot be read."""
    if "sae_lens_version" not in (config.get("metadata") or {}):
        config = {RENAMED.get(name, name): value for name, value in config.items()}
        config["metadata"] = {name: config[name] for name in ABOUT if name in config}
        config.setdefault("architecture", "standard")
        if config.get("activation_fn") == "topk":
            config |= {"architecture": "topk", **(config.get("activation_fn_kwargs") or {})}
        average = config.get("normalize_activations")
        if average is None or isinstance(average, bool):
            config["normalize_activations"] = "expected_average_only_in" if average else "none"
        if config.get("activation_fn", "relu") not in ("relu", "topk"):
            raise ValueError(
                f"{path}: activation_fn: got {config['activation_fn']!r}, allowed: relu, topk"
            )
    config.setdefault("normalize_activations", "none")
    if config.get("architecture") not in KINDS:
        raise ValueError(
            f"{path}: architecture: got {config.get('architecture')!r}, allowed: {', '.join(KINDS)}"
        )
    return config


def _read(path: Path, theirs: str) -> dict[str, Any]:
    """The tensors of an architecture in float32, under the names of `Params`; errors name path."""
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: got a damaged file ({error}), allowed: .safetensors") from error
    if (scale := tensors.get("scaling_factor")) is not None and (scale == 1).all():
        del tensors["scaling_factor"]  # older versions wrote one, mostly of ones
    if theirs == "jumprelu" and "log_threshold" in tensors:
        tensors["threshold"] = np.exp(as_float32(tensors.pop("log_threshold")))
    return take(tensors, TENSORS[theirs], path)


def _k(config: Mapping[str, Any], metadata: Mapping[str, Any], path: Path) -> int:
    """Active latents of a sample; where nothing whole is said 0, or for topk a ValueError."""
    k = config.get("k", (metadata.get("training_architecture_details") or {}).get("k", 0))
    if config["architecture"] == "topk":
        allowed = f"a whole number from 1 to d_sae={config['d_sae']}"
        return check_whole(f"{path}: k", k, allowed, lambda v: 1 <= v <= config["d_sae"])
    return int(k) if isinstance(k, int | float) and k == int(k) else 0


def _rescaled(params: Params, path: Path) -> Params:
    """Weights of an SAE whose activations are counted in norms of its decoder rows."""
    norms = np.linalg.norm(params.W_dec, axis=-1)
    # SAELens divides by the norms.
    if not norms.all():
        raise ValueError(
            f"{path}: W_dec: got rows of norm 0 and rescale_acts_by_decoder_norm, allowed: others"
        )
    W_enc, b_enc, W_dec = params.W_enc * norms, params.b_enc * norms, params.W_dec / norms[:, None]
    return params._replace(W_enc=W_enc, b_enc=b_enc, W_dec=W_dec)


def _unscaled(params: Params, folder: Path, normalisation: str) -> Params:
    """Weights for x of an SAE that saw s x; ValueError for another normalisation or without s."""
    got = f"{folder / CONFIG}: normalize_activations: got {normalisation!r}, allowed: none, "
    if normalisation != "expected_average_only_in":
        raise ValueError(f"{got}expected_average_only_in")
    if not (folder / SCALER).is_file():
        raise ValueError(f"{got}or with the factor in {SCALER} beside it")
    allowed = "the factor of the inputs, a number above 0"
    factor = read_json(folder / SCALER).get("scaling_factor")
    name = f"{folder / SCALER}: scaling_factor"
    s = np.float32(check_number(name, factor, allowed, lambda v: v > 0))
    assert params.b_dec is not None
    return params._replace(W_enc=params.W_enc * s, W_dec=params.W_dec / s, b_dec=params.b_dec / s)
