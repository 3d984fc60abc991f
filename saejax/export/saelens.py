"""SAELens's layout: cfg.json and sae_weights.safetensors.

    ours                what SAELens has for it
    relu                standard
    topk                topk
    batchtopk           jumprelu, the threshold repeated for every latent: what SAELens itself saves
    of
                        a BatchTopK SAE once its training is over
    matryoshka          likewise
    jumprelu            jumprelu, threshold = exp(log_threshold)
    gated               gated, b_gate = b_enc

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
      linear
  ("layer_norm", "constant_norm_rescale"), or gone from every finished SAE ("covariance_whitening").
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
from saejax.export.folder import as_float32, logarithm, seeing_centred, take
from saejax.sae.params import Params
from saejax.sae.trained import SAE

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
FILES = (CONFIG, WEIGHTS)
SCALER = "activation_scaler.json"
# Whose layout is written; below 6 SAELens would take it for an older one.
VERSION = "6.54.12"

ARCHITECTURES = {
    "relu": "standard",
    "topk": "topk",
    "batchtopk": "jumprelu",
    "matryoshka": "jumprelu",
    "jumprelu": "jumprelu",
    "gated": "gated",
}
# What SAELens calls the training of those that it saves as another architecture.
TRAINED_AS = {"batchtopk": "batchtopk", "matryoshka": "matryoshka_batchtopk"}
KINDS = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
    **{theirs: ours for ours, theirs in TRAINED_AS.items()},
}
# What was called otherwise before version 6, and what was said there about the model.
RENAMED = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
ABOUT = (
    "model_name",
    "hook_name",
    "hook_head_index",
    "context_size",
    "prepend_bos",
    "dataset_path",
    "model_from_pretrained_kwargs",
    "neuronpedia_id",
    "sae_lens_training_version",
)


def save(sae: SAE, folder: Path) -> None:
    """Writes the files of an SAE into a folder."""
    write_text(folder / CONFIG, json.dumps(_config(sae), indent=1))
    write_bytes(folder / WEIGHTS, serialized(_tensors(sae)))


def load(folder: Path) -> SAE:
    """The SAE in a folder; errors as `saejax.export.formats.load`."""
    path, weights = folder / CONFIG, folder / WEIGHTS
    config = _current(read_json(path), path)
    theirs = config["architecture"]
    tensors = _read(weights, theirs)
    shape = (config.get("d_in"), config.get("d_sae"))
    if tensors["W_enc"].shape != shape:
        raise ValueError(
            f"{weights}: W_enc: got the shape {tensors['W_enc'].shape}, allowed: {shape}, the "
            f"d_in and d_sae of {CONFIG}"
        )
    metadata = dict(config.get("metadata") or {})
    kind, k = KINDS[theirs], _k(config, metadata, path)
    if theirs == "jumprelu":
        threshold = tensors.pop("threshold")
        trained = KINDS.get(metadata.get("training_architecture", ""))
        if trained in TRAINED_AS and (threshold == threshold[0]).all():
            kind, tensors["threshold"] = trained, threshold[0]
        else:
            tensors["log_threshold"] = logarithm(threshold)
    params = Params(**tensors)
    if config.get("rescale_acts_by_decoder_norm"):
        params = _rescaled(params, weights)
    if config["normalize_activations"] != "none":
        params = _unscaled(params, folder, config["normalize_activations"])
    if not config.get("apply_b_dec_to_input", True):
        params = seeing_centred(params)
    return SAE(params, kind, k, metadata)


def _tensors(sae: SAE) -> dict[str, np.ndarray]:
    """What sae_weights.safetensors holds."""
    p, theirs = sae.params, ARCHITECTURES[sae.architecture]
    tensors: dict[str, Any] = {"W_enc": p.W_enc, "W_dec": p.W_dec, "b_dec": p.b_dec}
    if p.b_dec is None:
        tensors["b_dec"] = np.zeros(sae.d_in)
    if theirs == "gated":
        tensors |= {"b_gate": p.b_enc, "r_mag": p.r_mag, "b_mag": p.b_mag}
    else:
        tensors["b_enc"] = p.b_enc
    if sae.architecture == "jumprelu":
        tensors["threshold"] = np.exp(as_float32(p.log_threshold))
    elif theirs == "jumprelu":
        tensors["threshold"] = np.full(sae.d_sae, p.threshold)
    return {name: as_float32(a) for name, a in tensors.items()}


def _config(sae: SAE) -> dict[str, Any]:
    """What cfg.json holds."""
    metadata = {"sae_lens_training_version": None, **sae.metadata, "sae_lens_version": VERSION}
    if sae.architecture in TRAINED_AS:
        metadata["training_architecture"] = TRAINED_AS[sae.architecture]
        metadata["training_architecture_details"] = {"k": sae.k}
    config = {
        "architecture": ARCHITECTURES[sae.architecture],
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


def _current(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """A configuration as versions from 6 on write it, checked for what the weights cannot tell.

    Raises:
        ValueError: naming the file and the field.
    """
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
    """The tensors of an architecture in float32, under the names of `Params` but for `threshold`.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    try:
        found = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: got a damaged file ({error}), allowed: .safetensors") from error
    if (scale := found.get("scaling_factor")) is not None and (scale == 1).all():
        del found["scaling_factor"]  # older versions wrote one, mostly of ones
    if theirs == "jumprelu" and "log_threshold" in found:
        found["threshold"] = np.exp(as_float32(found.pop("log_threshold")))
    names = {"W_enc": "W_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
    if theirs == "gated":
        names |= {"b_gate": "b_enc", "r_mag": "r_mag", "b_mag": "b_mag"}
    else:
        names["b_enc"] = "b_enc"
    if theirs == "jumprelu":
        names["threshold"] = "threshold"
    elif theirs in TRAINED_AS.values():
        names["topk_threshold"] = "threshold"
    return {names[name]: a for name, a in take(found, tuple(names), path).items()}


def _k(config: Mapping[str, Any], metadata: Mapping[str, Any], path: Path) -> int:
    """Active latents of a sample; 0 where nothing whole is said, which matters to a topk SAE alone.

    Raises:
        ValueError: for a topk SAE without.
    """
    k = config.get("k", (metadata.get("training_architecture_details") or {}).get("k", 0))
    if config["architecture"] == "topk":
        allowed = f"a whole number from 1 to d_sae={config['d_sae']}"
        return check_whole(f"{path}: k", k, allowed, lambda v: 1 <= v <= config["d_sae"])
    return int(k) if isinstance(k, int | float) and k == int(k) else 0


def _rescaled(params: Params, path: Path) -> Params:
    """Weights of an SAE whose activations are counted in norms of its decoder rows.

    Raises:
        ValueError: where a row has none; SAELens divides by it.
    """
    norms = np.linalg.norm(params.W_dec, axis=-1)
    if not norms.all():
        raise ValueError(
            f"{path}: W_dec: got rows of norm 0 and rescale_acts_by_decoder_norm, allowed: others"
        )
    return params._replace(
        W_enc=params.W_enc * norms, b_enc=params.b_enc * norms, W_dec=params.W_dec / norms[:, None]
    )


def _unscaled(params: Params, folder: Path, normalisation: str) -> Params:
    """Weights for x of an SAE that saw s x.

    Raises:
        ValueError: where the inputs were transformed otherwise, or s is not known.
    """
    if normalisation != "expected_average_only_in":
        raise ValueError(
            f"{folder / CONFIG}: normalize_activations: got {normalisation!r}, allowed: none, "
            "expected_average_only_in"
        )
    if not (folder / SCALER).is_file():
        raise ValueError(
            f"{folder / CONFIG}: normalize_activations: got {normalisation!r}, allowed: none, or "
            f"with the factor in {SCALER} beside it"
        )
    allowed = "the factor of the inputs, a number above 0"
    found = read_json(folder / SCALER).get("scaling_factor")
    s = np.float32(
        check_number(f"{folder / SCALER}: scaling_factor", found, allowed, lambda v: v > 0)
    )
    assert params.b_dec is not None
    return params._replace(W_enc=params.W_enc * s, W_dec=params.W_dec / s, b_dec=params.b_dec / s)
