"""Finished runs of the GPT-2 command, on a model of its own and on a GPT-2."""

import json

import numpy as np
import pytest
from helpers.gpt2_study import GPT2_HOOK, TINY, TWO, WORDS, run
from safetensors.numpy import save_file

from saejax.lm.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    for i in range(40):
        (folder / f"{i:02d}.txt").write_text(" ".join(rng.choice(WORDS, 60)) + ".\n")
    return folder


@pytest.fixture(scope="module")
def finished(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("gpt2") / "run"
    run(*TINY, f"--folder={texts}", f"--workdir={path}")
    return path


@pytest.fixture(scope="module")
def tiny_gpt2(texts, tmp_path_factory):
    """A folder with a GPT-2 of random weights and its tokenizer, as the hub has them."""
    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    folder.mkdir()
    config = {"vocab_size": 280, "n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2}
    config |= {"model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = train_tokenizer((p.read_text() for p in sorted(texts.iterdir())), 280)
    tokenizer.save(str(folder / "tokenizer.json"))
    shapes = {"wte.weight": (280, 8), "wpe.weight": (16, 8)}
    for i, (name, shape) in (
        (i, pair)
        for i in range(2)
        for pair in {
            "attn.c_attn": (8, 24),
            "attn.c_proj": (8, 8),
            "mlp.c_fc": (8, 32),
            "mlp.c_proj": (32, 8),
        }.items()
    ):
        shapes |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[1:]}
    rng = np.random.default_rng(0)
    tensors = {name: np.float32(rng.normal(0, 0.4, shape)) for name, shape in shapes.items()}
    for norm in ("ln_f", *(f"h.{i}.ln_{j}" for i in range(2) for j in (1, 2))):
        tensors |= {
            f"{norm}.weight": np.ones(8, np.float32),
            f"{norm}.bias": np.zeros(8, np.float32),
        }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def of_gpt2(texts, tiny_gpt2):
    """Flags of a run on it: windows of 12 tokens, the first of which is <|endoftext|> and left
    out."""
    flags = [f"--hook={GPT2_HOOK}", "--context=12", "--bos", "--drop_first", "--rows=1200"]
    return [*TINY, *TWO, f"--folder={texts}", f"--lm={tiny_gpt2}", *flags, "--held_out=0.06"]


@pytest.fixture(scope="module")
def on_gpt2(of_gpt2, tmp_path_factory):
    path = tmp_path_factory.mktemp("on-gpt2") / "run"
    run(*of_gpt2, f"--workdir={path}", "--viewer=all")
    return path
