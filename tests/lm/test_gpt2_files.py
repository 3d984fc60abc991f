"""Files that are not GPT-2's are refused; those that are have a record."""

import hashlib
import json
import shutil
import sys
import types
from dataclasses import asdict, replace

import jax
import numpy as np
import pytest
from helpers.gpt2_files import CONFIG, random_tensors, write
from safetensors.numpy import save_file

from saejax.lm import gpt2_files
from saejax.lm.gpt2 import REVISIONS, SIZES, load_gpt2, published_config, read_config
from saejax.lm.model import n_parameters

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
            ValueError, match=r"config\.json: got (a damaged file \(.*\)|list), allowed"
        ):
            load_gpt2(copied)
    (copied / "config.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"copy/config\.json: got no file, allowed: the config"
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
        with pytest.raises(ValueError, match=r"index\.json: got a damaged file"):
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
