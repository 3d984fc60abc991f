"""GPT-2 from its files, against NumPy and transformers; files that are not GPT-2's; its
tokenizer."""

import hashlib
import importlib.util
import json
import math
import re
import shutil
import sys
import types
from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from saejax.lm import gpt2_files
from saejax.lm.gpt2 import REVISIONS, SIZES, load_gpt2, published_config, read_config
from saejax.lm.model import forward, hook_names, n_parameters
from saejax.lm.tokenizer import END_OF_TEXT, find_tokenizer, token_texts, train_tokenizer

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
TOKENS = np.random.default_rng(0).integers(0, 61, (2, 16))
STREAMS = tuple(f"blocks.{i}.hook_resid_post" for i in range(3))


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("gpt2") / "model", random_tensors())


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


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


# --------------------------------------------------------------------------------------
# transformers

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


# ------------------------------------------------------------------------------------------- shapes


def test_the_published_shapes_have_the_published_numbers_of_weights():
    def weights(name):
        # All blocks are alike, so that two of them say what tracing 48 would take seconds for.
        config = published_config(name)
        one, two = (n_parameters(replace(config, n_layers=n)) for n in (1, 2))
        return one + (config.n_layers - 1) * (two - one)

    assert {name: weights(name) for name in SIZES} == {
        "gpt2": 124_439_808,
        "gpt2-medium": 354_823_168,
        "gpt2-large": 774_030_080,
        "gpt2-xl": 1_557_611_200,
    }
    assert SIZES.keys() == REVISIONS.keys()
    assert published_config("gpt2-xl", "bf16").matmul_precision == "bf16"
    with pytest.raises(
        ValueError, match="name: got 'gpt3', allowed: gpt2, gpt2-medium, gpt2-large, gpt"
    ):
        published_config("gpt3")


def test_the_shape_is_that_of_config_json(folder, copied):
    assert read_config(folder) == load_gpt2(folder).model.config
    config = CONFIG | {"n_inner": 20, "layer_norm_epsilon": 1e-3, "reorder_and_upcast_attn": True}
    del config["n_positions"]
    (copied / "config.json").write_text(json.dumps(config | {"n_ctx": 9}))
    shape = read_config(copied)
    assert (shape.d_mlp, shape.layer_norm_eps, shape.context) == (20, 1e-3, 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt_neox"}, "model_type: got 'gpt_neox', allowed: 'gpt2'"),
        ({"model_type": None}, "model_type: got None, allowed: 'gpt2'"),
        ({"activation_function": "relu"}, "activation_function: got 'relu', allowed: 'gelu_new'"),
        ({"scale_attn_weights": False}, "scale_attn_weights: got False, allowed: True"),
        (
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx: got True, allow",
        ),
        ({"add_cross_attention": True}, "add_cross_attention: got True, allowed: False"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings: got False, allowed: True"),
        ({"n_embd": "12"}, "n_embd: got '12', allowed: a whole number, 1 or more"),
        ({"n_layer": None}, "n_layer: got None, allowed: a whole number, 1 or more"),
        ({"n_positions": 0}, "n_positions: got 0, allowed: a whole number, 1 or more"),
        ({"n_head": 5}, "n_heads: got 5, allowed: a divisor of d_model=12"),
        ({"layer_norm_epsilon": 0}, "layer_norm_eps: got 0, allowed: above 0"),
    ],
)
def test_another_architecture_is_refused_by_the_field_of_config_json(copied, change, message):
    (copied / "config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(ValueError, match=rf"copy/config\.json: {message}"):
        load_gpt2(copied)


# -------------------------------------------------------------------------------------------- files


def changed(name, array):
    """The tensors with one of them replaced, or left out."""
    tensors = random_tensors() | {name: array}
    return {k: v for k, v in tensors.items() if v is not None}


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("h.1.mlp.c_fc.weight", None, "model: h.1.mlp.c_fc.weight: got no such tensor, allowed"),
        ("wpe.weight", None, "model: wpe.weight: got no such tensor, allowed: all of GPT-2's"),
        ("h.3.ln_1.bias", np.ones(12), "h.3.ln_1.bias: got a tensor that GPT-2 of this config"),
        ("h.1.attn.rotary", np.ones(2), "h.1.attn.rotary: got a tensor that GPT-2 of this config"),
        (
            "h.2.attn.c_attn.weight",
            np.ones((36, 12)),
            r"c_attn.weight: got shape \(36, 12\), allow",
        ),
        (
            "wte.weight",
            np.ones((60, 12)),
            r"tensors: wte.weight: got shape \(60, 12\), allowed: \(61",
        ),
        ("ln_f.bias", np.ones(12, np.float64), "ln_f.bias: got F64, allowed: F32, F16, BF16"),
        ("ln_f.bias", np.ones(12, np.int8), "ln_f.bias: got I8, allowed: F32, F16, BF16"),
        (
            "h.0.ln_2.weight",
            np.full(12, np.nan),
            "h.0.ln_2.weight: got a number that is not finite",
        ),
        ("lm_head.weight", np.ones((61, 12)), "lm_head.weight: got other numbers than wte.weight"),
        (
            "lm_head.weight",
            np.ones((60, 12)),
            r"lm_head.weight: got shape \(60, 12\), allowed: \(61",
        ),
        (
            "transformer.ln_f.bias",
            np.ones(12),
            r"transformer.ln_f.bias: got it twice, allowed: once",
        ),
    ],
)
def test_a_tensor_that_is_not_gpt2s_is_named(tmp_path, name, array, message):
    if array is not None and array.dtype == np.float64 and "F64" not in message:
        array = array.astype(np.float32)
    written = write(tmp_path / "model", changed(name, array))
    with pytest.raises(ValueError, match=message):
        load_gpt2(written)


def test_other_shapes_than_config_json_says_are_refused_before_a_weight_is_read(folder, copied):
    (copied / "config.json").write_text(json.dumps(CONFIG | {"n_layer": 4}))
    with pytest.raises(
        ValueError, match=r"h\.3\.attn\.c_attn\.bias: got no such tensor and 11 more"
    ):
        load_gpt2(copied)
    (copied / "config.json").write_text(json.dumps(CONFIG | {"n_layer": 2}))
    with pytest.raises(
        ValueError, match=r"h\.2\..*: got a tensor that GPT-2 of this config\.json does"
    ):
        load_gpt2(copied)


def test_one_number_of_an_untied_unembedding_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(gpt2_files, "BLOCK", 7)
    head = random_tensors()["wte.weight"]
    load_gpt2(write(tmp_path / "m", changed("lm_head.weight", head)))
    head[-1, -1] += 1
    with pytest.raises(
        ValueError, match=r"lm_head\.weight: got other numbers than wte\.weight, allowed"
    ):
        load_gpt2(write(tmp_path / "n", changed("lm_head.weight", head)))


def test_files_that_are_damaged_or_missing_are_named(copied, tmp_path):
    weights = copied / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-1], whole[:100], whole[:4], b"", b"\xff" * 8 + whole[8:]):
        weights.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"model\.safetensors: got a damaged file \(.*\), allowed: "
        ):
            load_gpt2(copied)
    weights.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"copy: got neither model\.safetensors nor model\.safe"
    ):
        load_gpt2(copied)
    for text in ("{", "[1]", "\udcff"):
        (copied / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(
            ValueError, match=r"config\.json: got a file that is damaged \(.*\), allowed"
        ):
            load_gpt2(copied)
    (copied / "config.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"copy/config\.json: got no file, allowed: a folder"
    ):
        load_gpt2(copied)


@pytest.fixture
def sharded(folder, tmp_path):
    """Two files of weights and their index; returns how to change the index."""
    tensors = random_tensors()
    halves = {"model-1-of-2.safetensors": sorted(tensors)[:20]}
    halves["model-2-of-2.safetensors"] = sorted(tensors)[20:]
    path = tmp_path / "sharded"
    path.mkdir()
    shutil.copy(folder / "config.json", path)
    for file, names in halves.items():
        save_file({name: tensors[name] for name in names}, path / file)

    def index(change=None, **fields):
        places = {name: file for file, names in halves.items() for name in names}
        places = {k: v for k, v in (places | (change or {})).items() if v}
        text = json.dumps({"weight_map": places} | fields)
        (path / "model.safetensors.index.json").write_text(text)
        return path

    return index


def test_shards_are_one_model_and_all_in_the_record(sharded, folder):
    path = sharded()
    loaded, whole = load_gpt2(path), load_gpt2(folder)
    for a, b in zip(jax.tree.leaves(loaded.model), jax.tree.leaves(whole.model), strict=True):
        np.testing.assert_array_equal(a, b)
    index = "model.safetensors.index.json"
    shards = ["model-1-of-2.safetensors", "model-2-of-2.safetensors"]
    assert list(loaded.about["files"]) == ["config.json", index, *shards]


def test_an_index_that_does_not_fit_its_files_names_the_tensor(sharded):
    with pytest.raises(
        FileNotFoundError, match=r"sharded/m3\.safetensors: missing; .* it holds wpe\.w"
    ):
        load_gpt2(sharded({"wpe.weight": "m3.safetensors"}))
    one = "model-1-of-2.safetensors"
    with pytest.raises(ValueError, match=rf"index\.json: wpe\.weight: got it in model-2.*in {one}"):
        load_gpt2(sharded({"wpe.weight": one}))
    with pytest.raises(ValueError, match=r"wpe\.weight: got it in model-2.*, allowed: in no file"):
        load_gpt2(sharded({"wpe.weight": None}))
    with pytest.raises(ValueError, match=rf"index\.json: x: got it in no file, allowed: in {one}"):
        load_gpt2(sharded({"x": one}))
    with pytest.raises(
        ValueError, match=r"index\.json: got the file '\.\./x', allowed: names of files"
    ):
        load_gpt2(sharded({"wpe.weight": "../x"}))
    for damaged in ({"weight_map": None}, {"weight_map": {"x": 1}}):
        with pytest.raises(ValueError, match=r"index\.json: got a file that is damaged"):
            load_gpt2(sharded(**damaged))


# ------------------------------------------------------------------------------------------- record


def test_the_record_names_the_files_by_their_checksums(folder, copied):
    about = load_gpt2(folder, dtype="bfloat16", matmul_precision="bf16").about
    assert json.loads(json.dumps(about)) == about
    assert (about["name"], about["revision"], about["dtype"]) == ("model", None, "bfloat16")
    assert about["config"] == asdict(load_gpt2(folder, matmul_precision="bf16").model.config)
    for name, file in about["files"].items():
        content = (folder / name).read_bytes()
        assert file == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    save_file(random_tensors(2), copied / "model.safetensors")
    other = load_gpt2(copied).about["files"]
    assert other["config.json"] == about["files"]["config.json"]
    assert other["model.safetensors"] != about["files"]["model.safetensors"]


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """The hub's own library, offline, with a cache that holds the test's model under some names."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def add(name, commit):
        repo = tmp_path / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, repo / "snapshots" / commit)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(commit)

    return add


def test_a_model_of_the_hub_is_recorded_with_its_commit(hub, folder):
    hub("someone/tiny", "a" * 40)
    loaded = load_gpt2("someone/tiny")
    assert (loaded.about["name"], loaded.about["revision"]) == ("someone/tiny", "a" * 40)
    assert load_gpt2("someone/tiny", revision="a" * 40).about == loaded.about
    assert loaded.about["files"] == load_gpt2(folder).about["files"]
    with pytest.raises(OSError, match=r"offline|cache|locate|find"):
        load_gpt2("someone/tiny", revision="b" * 40)


@pytest.mark.parametrize("name", ["gpt2-large", "openai-community/gpt2-large"])
def test_the_published_models_have_a_pinned_commit(hub, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    hub("openai-community/gpt2-large", REVISIONS["gpt2-large"])
    (tmp_path / "models--openai-community--gpt2-large/refs/main").write_text("c" * 40)
    about = load_gpt2(name).about
    assert about["name"] == "openai-community/gpt2-large"
    assert about["revision"] == REVISIONS["gpt2-large"]
    with pytest.raises(OSError, match=r"offline|cache|locate|find"):
        load_gpt2(name, revision="main")


def test_only_a_models_own_files_are_downloaded(folder, monkeypatch):
    asked = []

    def snapshot_download(name, **options):
        asked.append((name, options))
        return str(folder)

    fake = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    load_gpt2("a/b", revision="v1")
    ((name, options),) = asked
    assert (name, options["revision"]) == ("a/b", "v1")
    assert {"config.json", "tokenizer.json", "model.safetensors"} < set(options["allow_patterns"])
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"name: got 'a/b', which is no folder; .*saejax\[lm\]"):
        load_gpt2("a/b")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "nowhere",
            {},
            "name: got 'nowhere', allowed: an existing folder, gpt2, .*, or owner/name of",
        ),
        ("/no/such/folder", {}, "name: got '/no/such/folder', allowed: an existing folder"),
        ("../no-such-folder", {}, r"name: got '\.\./no-such-folder', allowed: an existing folder"),
        (None, {"revision": "main"}, "revision: got 'main', allowed with a folder: None"),
        (None, {"dtype": "float16"}, "dtype: got 'float16', allowed: float32, bfloat16"),
        (
            None,
            {"matmul_precision": "fp8"},
            "matmul_precision: got 'fp8', allowed: highest, tf32, bf16",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(folder, unchecked, name, options, message):
    with pytest.raises(ValueError, match=message):
        load_gpt2(folder if name is None else name, **options)


# ---------------------------------------------------------------------------------------- tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["漢字 is the cat of the élan\n\tvital"] * 20, 280)


def test_texts_of_tokens_are_what_their_bytes_say(tokenizer):
    texts = token_texts(tokenizer)
    assert len(texts) == tokenizer.get_vocab_size() == 280
    assert texts[0] == END_OF_TEXT
    # Each of the 256 bytes is a token: those of ASCII as they are, the others by number.
    ascii_bytes = {chr(b) for b in range(128)}
    assert set(texts[1:257]) == ascii_bytes | {rf"\x{b:02x}" for b in range(128, 256)}
    # What is whole in one token is what the tokenizer's own decoder says.
    decoded = [tokenizer.decode([i], skip_special_tokens=False) for i in range(257, 280)]
    assert [a for a in decoded if "\ufffd" not in a] == [
        b for a, b in zip(decoded, texts[257:], strict=True) if "\ufffd" not in a
    ]
    assert {" the", "élan"} < set(texts)


@pytest.mark.parametrize("text", ["€", " the élan", "字€ is 漣\n", "\u00ad\u00a0\t"])
def test_pieces_of_characters_are_shown_byte_by_byte(tokenizer, text):
    pieces = [token_texts(tokenizer)[i] for i in tokenizer.encode(text).ids]
    # Escapes back to bytes, all else to its UTF-8: together they are the text's bytes.
    parts = re.split(r"\\x(..)", "".join(pieces))
    found = b"".join(bytes.fromhex(p) if i % 2 else p.encode() for i, p in enumerate(parts))
    assert found == text.encode()
    if text == "€":
        assert pieces == [r"\xe2", r"\x82", r"\xac"]


def test_a_token_that_ends_inside_a_character_shows_both(tokenizer):
    # Two characters with two bytes in common: the pair that is learned is a space and one and a
    # half.
    pairs = train_tokenizer([" 漢" * 9 + " 漣" * 9], 260)
    assert r" \xe6\xbc" in token_texts(pairs)


def test_ids_without_a_token_have_a_placeholder(tokenizer, unchecked):
    texts = token_texts(tokenizer, 283)
    assert texts[:280] == token_texts(tokenizer)
    assert texts[280:] == ("<no token 280>", "<no token 281>", "<no token 282>")
    for n in (279, 0, 280.0):
        with pytest.raises(
            ValueError, match=f"vocab_size: got {n}, allowed: None, or a whole number fr"
        ):
            token_texts(tokenizer, n)


def test_texts_of_another_kind_of_tokenizer_are_refused():
    from tokenizers import Tokenizer, decoders, models

    words = Tokenizer(models.WordPiece({"[UNK]": 0, "漢": 1}, unk_token="[UNK]"))
    words.decoder = decoders.WordPiece()
    with pytest.raises(
        ValueError, match="tokenizer: got one with the decoder WordPiece, allowed: Byte"
    ):
        token_texts(words)
    words.decoder = decoders.ByteLevel()
    with pytest.raises(ValueError, match="tokenizer: got the token '漢', allowed: byte-level ones"):
        token_texts(words)


def test_a_models_folder_gives_its_tokenizer(copied, tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError):
        find_tokenizer(str(copied))
    small = train_tokenizer(["abc"], 257)
    small.save(str(copied / "tokenizer.json"))
    assert find_tokenizer(str(copied)).to_str() == small.to_str()
    with pytest.raises(
        ValueError, match=r"tokenizer\.json: got 257 tokens, allowed: the model's 61 or"
    ):
        load_gpt2(copied).tokenizer()
    larger = random_tensors() | {"wte.weight": np.ones((257, 12), np.float32)}
    written = write(tmp_path / "larger", larger, {"vocab_size": 257})
    small.save(str(written / "tokenizer.json"))
    assert load_gpt2(written).tokenizer().encode("ab").ids == small.encode("ab").ids
    assert hook_names(load_gpt2(written).model.config)
