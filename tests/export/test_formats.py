"""SAEs as folders: what is in the files, read by hand, and what comes back."""

import json

import numpy as np
import pytest
from helpers.sae_folders import NEEDS_TORCH, edit, retensor, safetensors
from helpers.saes import ARCHITECTURES, D_IN, D_SAE, K, inputs, make
from safetensors.numpy import save_file

from saejax.export import formats
from saejax.export.formats import saelens

# ------------------------------------------------------------------------------ what is in the
# files


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saelens_folder_read_by_hand_reconstructs_as_the_sae(architecture, tmp_path):
    sae = make(architecture)
    formats.save(sae, tmp_path / "sae")
    assert {p.name for p in (tmp_path / "sae").iterdir()} == {"cfg.json", "sae_weights.safetensors"}
    config = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    t = safetensors(tmp_path / "sae" / "sae_weights.safetensors")
    theirs, own = {
        "relu": ("standard", {"b_enc"}),
        "topk": ("topk", {"b_enc"}),
        "batchtopk": ("jumprelu", {"b_enc", "threshold"}),
        "matryoshka": ("jumprelu", {"b_enc", "threshold"}),
        "jumprelu": ("jumprelu", {"b_enc", "threshold"}),
        "gated": ("gated", {"b_gate", "r_mag", "b_mag"}),
    }[architecture]
    assert set(t) == {"W_enc", "W_dec", "b_dec"} | own
    assert t["W_enc"].shape == (D_IN, D_SAE)
    assert t["W_dec"].shape == (D_SAE, D_IN)
    assert all(t[name].shape == (D_SAE,) for name in own)
    metadata = config.pop("metadata")
    assert config == {
        "architecture": theirs,
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **({"k": K, "rescale_acts_by_decoder_norm": False} if theirs == "topk" else {}),
    }
    assert metadata["hook_name"] == "blocks.3.hook_resid_pre"
    assert metadata["sae_lens_version"].startswith("6.")

    x = inputs()
    pre = (x - t["b_dec"]) @ t["W_enc"] + t.get("b_enc", t.get("b_gate"))
    if theirs == "standard":
        h = np.maximum(pre, 0)
    elif theirs == "topk":
        h = np.where(pre >= np.sort(pre)[:, [-K]], np.maximum(pre, 0), 0)
    elif theirs == "jumprelu":
        h = np.where(pre > t["threshold"], np.maximum(pre, 0), 0)
    else:
        magnitude = (x - t["b_dec"]) @ (t["W_enc"] * np.exp(t["r_mag"])) + t["b_mag"]
        h = (pre > 0) * np.maximum(magnitude, 0)
    assert 0.1 < (h > 0).mean() < 0.9
    np.testing.assert_allclose(sae.encode(x), h, atol=1e-5)
    np.testing.assert_allclose(sae(x), h @ t["W_dec"] + t["b_dec"], atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_dictionary_learning_folder_read_by_hand_reconstructs_as_the_sae(architecture, tmp_path):
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    sae = make(architecture)
    formats.save(sae, tmp_path / "sae", "dictionary_learning")
    assert {p.name for p in (tmp_path / "sae").iterdir()} == {"config.json", "ae.pt"}
    trainer = json.loads((tmp_path / "sae" / "config.json").read_text())["trainer"]
    assert (trainer["activation_dim"], trainer["dict_size"]) == (D_IN, D_SAE)
    # Their layers are the stream behind a block: before block 3 is behind block 2.
    assert (trainer["lm_name"], trainer["layer"]) == ("gpt2", 2)
    t = {k: v.numpy() for k, v in torch.load(tmp_path / "sae" / "ae.pt", weights_only=True).items()}
    linear = {"encoder.weight", "decoder.weight"}
    theirs, names = {
        "relu": ("AutoEncoder", linear | {"encoder.bias", "bias"}),
        "topk": ("AutoEncoderTopK", linear | {"encoder.bias", "b_dec", "k", "threshold"}),
        "batchtopk": ("BatchTopKSAE", linear | {"encoder.bias", "b_dec", "k", "threshold"}),
        "jumprelu": ("JumpReluAutoEncoder", {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"}),
        "gated": ("GatedAutoEncoder", linear | {"decoder_bias", "gate_bias", "mag_bias", "r_mag"}),
        "matryoshka": (
            "MatryoshkaBatchTopKSAE",
            {"W_enc", "b_enc", "W_dec", "b_dec", "k", "threshold", "group_sizes"},
        ),
    }[architecture]
    assert trainer["dict_class"] == theirs
    assert set(t) == names
    if "k" in names:
        assert (t["k"].dtype, int(t["k"]), trainer["k"]) == (np.int32, K, K)
    if architecture == "matryoshka":
        assert t["group_sizes"].tolist() == [4, D_SAE - 4]
    if architecture == "topk":
        assert t["threshold"] == -1

    x = inputs()
    W_enc = t["encoder.weight"].T if "encoder.weight" in t else t["W_enc"]
    W_dec = t["decoder.weight"].T if "decoder.weight" in t else t["W_dec"]
    b_dec = next(t[name] for name in ("bias", "b_dec", "decoder_bias") if name in t)
    b_enc = next(t[name] for name in ("encoder.bias", "b_enc", "gate_bias") if name in t)
    centred = x if architecture == "jumprelu" else x - b_dec  # theirs sees x
    pre = centred @ W_enc + b_enc
    h = np.maximum(pre, 0)
    if architecture == "topk":
        h = np.where(pre >= np.sort(pre)[:, [-K]], h, 0)
    elif architecture == "gated":
        h = (pre > 0) * np.maximum(np.exp(t["r_mag"]) * (centred @ W_enc) + t["mag_bias"], 0)
    elif "threshold" in t:
        h = h * (h > t["threshold"])
    np.testing.assert_allclose(sae.encode(x), h, atol=1e-5)
    np.testing.assert_allclose(sae(x), h @ W_dec + b_dec, atol=1e-5)


# -------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_was_saved_comes_back(architecture, format, tmp_path):
    sae = make(architecture)
    assert formats.save(sae, tmp_path / "new" / "sae", format) == tmp_path / "new" / "sae"
    back = formats.load(tmp_path / "new" / "sae")
    assert back.architecture == architecture
    if architecture in ("topk", "batchtopk", "matryoshka"):
        assert back.k == K
    for name, value in sae.params._asdict().items():
        got = getattr(back.params, name)
        if value is None:
            assert got is None
            continue
        assert got.dtype == np.float32
        # Through a logarithm, or b_dec @ W_enc and back.
        rounded = architecture == "jumprelu" and name in ("log_threshold", "b_enc")
        np.testing.assert_allclose(got, value, rtol=1e-6 * rounded, atol=1e-6 * rounded)
    assert {**back.metadata, **sae.metadata} == back.metadata
    np.testing.assert_allclose(back(inputs()), sae(inputs()), atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_sae_without_b_dec_comes_back_with_one_of_zeros(architecture, format, tmp_path):
    sae = make(architecture, b_dec=False)
    back = formats.load(formats.save(sae, tmp_path / "sae", format))
    assert not back.params.b_dec.any()
    np.testing.assert_allclose(back(inputs()), sae(inputs()), atol=1e-5)


def test_weights_in_any_order_of_memory_are_written_by_rows(format, tmp_path):
    sae = make("relu")
    params = sae.params._replace(W_enc=np.asfortranarray(sae.params.W_enc))
    back = formats.load(formats.save(type(sae)(params), tmp_path / "sae", format))
    np.testing.assert_array_equal(back.params.W_enc, sae.params.W_enc)


def test_thresholds_of_zero_or_less_act_as_zero(tmp_path):
    formats.save(make("jumprelu"), tmp_path / "sae")

    def change(tensors):
        tensors["threshold"][:3] = 0, -1, 0.5

    retensor(tmp_path / "sae", change)
    back = formats.load(tmp_path / "sae")
    assert back.params.log_threshold[:2].tolist() == [-np.inf, -np.inf]
    pre = (inputs() - back.params.b_dec) @ back.params.W_enc + back.params.b_enc
    h = back.encode(inputs())[:, :3]
    np.testing.assert_allclose(h, np.where(pre[:, :3] > [0, 0, 0.5], pre[:, :3], 0), atol=1e-5)


# ------------------------------------------------------------------------------- folders of others


def test_an_encoder_that_sees_x_is_rewritten_for_one_that_sees_it_centred(tmp_path):
    for architecture in ARCHITECTURES:
        sae = make(architecture)
        folder = formats.save(sae, tmp_path / architecture)
        edit(folder / "cfg.json", apply_b_dec_to_input=False)
        got = formats.load(folder)(inputs())
        # Ours would subtract b_dec from what it is given.
        wanted = sae(inputs() + sae.params.b_dec)
        np.testing.assert_allclose(got, wanted, atol=2e-5, err_msg=architecture)


def test_activations_counted_in_norms_of_decoder_rows_become_plain_ones(tmp_path):
    sae = make("topk", unit_norm=False)
    folder = formats.save(sae, tmp_path / "sae")
    edit(folder / "cfg.json", rescale_acts_by_decoder_norm=True)
    p, x = sae.params, inputs()
    norms = np.linalg.norm(p.W_dec, axis=1)
    pre = ((x - p.b_dec) @ p.W_enc + p.b_enc) * norms
    h = np.where(pre >= np.sort(pre)[:, [-K]], np.maximum(pre, 0), 0)
    back = formats.load(folder)
    np.testing.assert_allclose(back.encode(x), h, atol=1e-5)
    np.testing.assert_allclose(back(x), (h / norms) @ p.W_dec + p.b_dec, atol=1e-5)
    plain = formats.save(sae, tmp_path / "plain")
    assert not np.allclose(formats.load(plain)(x), back(x), atol=0.1)

    def change(tensors):
        tensors["W_dec"][2] = 0

    retensor(folder, change)
    with pytest.raises(ValueError, match=r"W_dec: got rows of norm 0"):
        formats.load(folder)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_known_factor_of_the_inputs_is_folded_into_the_weights(architecture, tmp_path):
    sae = make(architecture)
    folder = formats.save(sae, tmp_path / "sae")
    edit(folder / "cfg.json", normalize_activations="expected_average_only_in")
    with pytest.raises(ValueError, match=r"normalize_activations: got 'expected_average_only_in'"):
        formats.load(folder)
    (folder / "activation_scaler.json").write_text('{"scaling_factor": 0.5}')
    np.testing.assert_allclose(formats.load(folder)(inputs()), sae(inputs() * 0.5) / 0.5, atol=2e-5)
    (folder / "activation_scaler.json").write_text('{"scaling_factor": null}')
    with pytest.raises(ValueError, match=r"scaling_factor: got None, allowed: the factor"):
        formats.load(folder)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_half_precision_are_read_as_they_are(dtype, tmp_path):
    import ml_dtypes

    sae = make("relu")
    folder = formats.save(sae, tmp_path / "sae")
    tensors = safetensors(folder / saelens.WEIGHTS)
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16)
    save_file({k: a.astype(kind) for k, a in tensors.items()}, folder / saelens.WEIGHTS)
    edit(folder / "cfg.json", dtype=dtype)
    got = formats.load(folder).params.W_enc
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, sae.params.W_enc.astype(kind).astype(np.float32))
    assert not np.array_equal(got, sae.params.W_enc)


def test_folders_of_before_version_6_are_read(tmp_path):
    sae = make("topk")
    folder = formats.save(sae, tmp_path / "sae")
    old = {
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "torch.float32",
        "hook_point": "blocks.1.hook_mlp_out",
        "model_name": "gpt2-small",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 3},
        "normalize_activations": False,
    }
    (folder / "cfg.json").write_text(json.dumps(old))
    retensor(folder, lambda tensors: tensors.update(scaling_factor=np.ones(D_SAE, np.float32)))
    back = formats.load(folder)
    assert (back.architecture, back.k) == ("topk", 3)
    assert back.metadata == {"model_name": "gpt2-small", "hook_name": "blocks.1.hook_mlp_out"}

    edit(folder / "cfg.json", activation_fn_str="relu")
    assert formats.load(folder).architecture == "relu"
    edit(folder / "cfg.json", activation_fn_str="tanh-relu")
    with pytest.raises(ValueError, match=r"activation_fn: got 'tanh-relu', allowed: relu, topk"):
        formats.load(folder)
    edit(folder / "cfg.json", activation_fn_str="relu", normalize_activations=True)
    with pytest.raises(ValueError, match="got 'expected_average_only_in'"):
        formats.load(folder)
    edit(folder / "cfg.json", normalize_activations=False)
    retensor(folder, lambda tensors: tensors.update(scaling_factor=np.full(D_SAE, 2, np.float32)))
    with pytest.raises(ValueError, match="got the tensor scaling_factor"):
        formats.load(folder)


def test_an_autoencoder_with_both_biases_in_its_layers_is_read(tmp_path):
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    sae = make("relu")
    folder = formats.save(sae, tmp_path / "sae", "dictionary_learning")
    state = torch.load(folder / "ae.pt", weights_only=True)
    state["decoder.bias"] = state.pop("bias")
    torch.save(state, folder / "ae.pt")
    edit(folder / "config.json", trainer={"dict_class": "AutoEncoderNew"}, metadata=None)
    p, x = sae.params, inputs()
    h = np.maximum(x @ p.W_enc + p.b_enc, 0)
    back = formats.load(folder)
    np.testing.assert_allclose(back(x), h @ p.W_dec + p.b_dec, atol=1e-5)
    assert back.metadata == {"trainer": {"dict_class": "AutoEncoderNew"}}
