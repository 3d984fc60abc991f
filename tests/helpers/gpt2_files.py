"""A tiny GPT-2 in the files that Hugging Face writes."""

import json

import numpy as np
from safetensors.numpy import save_file

SHAPE = {"vocab_size": 61, "n_positions": 16, "n_embd": 12, "n_layer": 3, "n_head": 2}
# What the published models' files say, as far as it is read, in the size of a test.
CONFIG = {
    **SHAPE,
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "n_ctx": 16,
}
WIDTHS = {
    "attn.c_attn": (12, 36),
    "attn.c_proj": (12, 12),
    "mlp.c_fc": (12, 48),
    "mlp.c_proj": (48, 12),
}


def random_tensors(seed=1):
    """Weights of the size that training ends with, under the published files' names."""
    shapes = {"wte.weight": (61, 12), "wpe.weight": (16, 12)}
    for i in range(3):
        for name, shape in WIDTHS.items():
            shapes |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[1:]}
    rng = np.random.default_rng(seed)
    tensors = {name: rng.normal(0, 0.4, shape) for name, shape in shapes.items()}
    for norm in ("ln_f", *(f"h.{i}.ln_{j}" for i in range(3) for j in (1, 2))):
        tensors[f"{norm}.weight"], tensors[f"{norm}.bias"] = (
            rng.normal(1, 0.3, 12),
            rng.normal(0, 1, 12),
        )
    return {name: array.astype(np.float32) for name, array in tensors.items()}


def write(folder, tensors, config=None):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
