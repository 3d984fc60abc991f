"""GPT-2 from its files, against NumPy and transformers."""

import importlib.util
import math

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from helpers.gpt2_files import SHAPE, random_tensors, write
from safetensors.numpy import load_file

from saejax.lm.gpt2 import load_gpt2
from saejax.lm.model import forward
from saejax.lm.tokenizer import END_OF_TEXT, find_tokenizer, train_tokenizer

TOKENS = np.random.default_rng(0).integers(0, 61, (2, 16))
STREAMS = tuple(f"blocks.{i}.hook_resid_post" for i in range(3))


def numpy_forward(tensors, tokens):
    """Logits and the stream behind every block, in float64, of one sequence."""
    w = {name: array.astype(np.float64) for name, array in tensors.items()}

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def product(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["wte.weight"][tokens] + w["wpe.weight"][: len(tokens)]
    future = np.triu(np.full((len(tokens), len(tokens)), -np.inf), 1)
    streams = []
    for i in range(3):
        heads = np.split(product(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn"), 6, axis=1)
        mixed = []
        for q, k, v in zip(heads[:2], heads[2:4], heads[4:], strict=True):
            p = np.exp(q @ k.T / math.sqrt(6) + future)
            mixed.append(p / p.sum(1, keepdims=True) @ v)
        x = x + product(np.concatenate(mixed, axis=1), f"h.{i}.attn.c_proj")
        z = product(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        z = z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
        x = x + product(z, f"h.{i}.mlp.c_proj")
        streams.append(x)
    return norm(x, "ln_f") @ w["wte.weight"].T, streams


run = jax.jit(forward, static_argnames="read")


def ours(model):
    logits, seen = run(model, jnp.asarray(TOKENS), read=STREAMS)
    return [np.asarray(logits), *(np.asarray(seen[name]) for name in STREAMS)]


def by_numpy(tensors):
    parts = [numpy_forward(tensors, sequence) for sequence in TOKENS]
    return [np.stack(p) for p in ([logits for logits, _ in parts], *zip(*(s for _, s in parts)))]  # noqa: B905


def assert_equal(got, expected, error=1e-5):
    assert len(got) == len(expected) == 4
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=error * np.abs(b).max())


# --------------------------------------------------------------------------------- forward in NumPy


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_logits_and_every_stream_are_those_of_numpy(tmp_path, prefix):
    tensors = random_tensors()
    saved = {prefix + name: array for name, array in tensors.items()}
    loaded = load_gpt2(write(tmp_path / "m", saved))
    assert loaded.model.config.context == 16
    assert_equal(ours(loaded.model), by_numpy(tensors))


def test_masks_and_a_tied_unembedding_in_the_file_change_nothing(tmp_path, folder):
    tensors = random_tensors()
    mask = np.tril(np.ones((1, 1, 16, 16), np.float32))
    masks = {f"h.{i}.attn.bias": mask.astype(np.uint8) for i in range(3)}
    masks["transformer.h.0.attn.masked_bias"] = np.float32([-1e4])
    more = {**tensors, **masks, "lm_head.weight": tensors["wte.weight"]}
    model = load_gpt2(write(tmp_path / "m", more)).model
    for a, b in zip(ours(model), ours(load_gpt2(folder).model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16])
def test_weights_of_16_bits_are_read_as_they_are(tmp_path, stored):
    tensors = {name: array.astype(stored) for name, array in random_tensors().items()}
    model = load_gpt2(write(tmp_path / "m", tensors)).model
    assert {leaf.dtype for leaf in jax.tree.leaves(model)} == {jnp.dtype("float32")}
    assert_equal(ours(model), by_numpy(tensors))


@pytest.mark.parametrize("stored", [np.float32, ml_dtypes.bfloat16])
def test_in_bfloat16_the_weights_are_rounded_once_and_the_stream_is_not(tmp_path, stored):
    tensors = {name: array.astype(stored) for name, array in random_tensors().items()}
    model = load_gpt2(write(tmp_path / "m", tensors), dtype="bfloat16").model
    assert {leaf.dtype for leaf in jax.tree.leaves(model)} == {jnp.dtype("bfloat16")}
    rounded = {name: array.astype(ml_dtypes.bfloat16) for name, array in tensors.items()}
    got = ours(model)
    assert all(array.dtype == np.float32 for array in got)
    assert_equal(got, by_numpy(rounded))


def test_bf16_products_of_bfloat16_weights_round_the_activations_too(tmp_path):
    tensors = random_tensors()
    written = write(tmp_path / "m", tensors)
    model = load_gpt2(written, dtype="bfloat16", matmul_precision="bf16").model
    got, rounded = ours(model), {k: v.astype(ml_dtypes.bfloat16) for k, v in tensors.items()}
    with pytest.raises(AssertionError):
        assert_equal(got, by_numpy(rounded), 1e-4)
    assert_equal(got, by_numpy(rounded), 0.05)


# ------------------------------------------------------------------------------------- transformers

reference = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("torch", "transformers")),
    reason="torch and transformers, the extra [parity], are not installed",
)


@pytest.fixture(scope="module")
def theirs():
    """GPT2LMHeadModel with random weights of the size that training ends with."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = transformers.GPT2Config(**SHAPE, bos_token_id=0, eos_token_id=0)
    model = transformers.GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.4 * torch.randn(parameter.shape, generator=generator)
    yield model
    torch.set_num_threads(threads)


def by_transformers(model):
    """Logits and the stream behind every block; the last of transformers' own is behind ln_f."""
    import torch

    last = []
    handle = model.transformer.ln_f.register_forward_pre_hook(lambda _, args: last.append(args[0]))
    with torch.no_grad():
        out = model(torch.from_numpy(TOKENS), output_hidden_states=True)
    handle.remove()
    return [part.float().numpy() for part in (out.logits, *out.hidden_states[1:-1], last[0])]


@reference
@pytest.mark.parametrize("shards", [1, 5])
def test_logits_and_every_stream_are_those_of_transformers(theirs, tmp_path, shards):
    size = {} if shards == 1 else {"max_shard_size": "6KB"}
    theirs.save_pretrained(tmp_path, **size)
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert (len(files) == 1) == (shards == 1)
    loaded = load_gpt2(tmp_path)
    assert_equal(ours(loaded.model), by_transformers(theirs))
    index = [] if shards == 1 else ["model.safetensors.index.json"]
    assert list(loaded.about["files"]) == ["config.json", *index, *files]


@reference
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_files_of_16_bits_are_read_as_transformers_reads_them(theirs, tmp_path, dtype):
    import copy

    import torch
    from transformers import GPT2LMHeadModel

    copy.deepcopy(theirs).to(getattr(torch, dtype)).save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {str(array.dtype) for array in stored.values()} == {dtype}
    expected = by_transformers(GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float32))
    assert_equal(ours(load_gpt2(tmp_path).model), expected)
    if dtype == "bfloat16":
        assert_equal(ours(load_gpt2(tmp_path, dtype="bfloat16").model), expected)


@reference
def test_a_model_without_a_head_is_read_too(theirs, tmp_path):
    theirs.transformer.save_pretrained(tmp_path)
    assert "wte.weight" in load_file(tmp_path / "model.safetensors")
    assert_equal(ours(load_gpt2(tmp_path).model), by_transformers(theirs))


@reference
def test_a_tokenizer_that_transformers_saved_gives_the_same_tokens(folder, tmp_path):
    from transformers import AutoTokenizer, GPT2TokenizerFast

    trained = train_tokenizer(["the cat sat on the mat, 12 élan vital\n"] * 9, 270)
    trained.encode_special_tokens = False
    GPT2TokenizerFast(tokenizer_object=trained).save_pretrained(tmp_path)
    text = " the cat's élan,\n\tvital 漢"
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer = find_tokenizer(str(tmp_path))
    assert tokenizer.encode(text).ids == theirs(text)["input_ids"]
    # Only that text of the corpus is no command to the model.
    assert len(tokenizer.encode(END_OF_TEXT).ids) > len(theirs(END_OF_TEXT)["input_ids"]) == 1
