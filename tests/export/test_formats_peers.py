"""The packages that own the formats open our folders and reconstruct alike, and we open theirs."""

import json

import numpy as np
import pytest
from helpers.late import Late
from helpers.saes import ARCHITECTURES, D_IN, D_SAE, K, inputs, make

from saejax.export import formats

torch = Late("torch", "both packages are written in torch")


@pytest.fixture(scope="module")
def sae_lens():
    return pytest.importorskip("sae_lens", reason="the peer SAELens is not installed")


@pytest.fixture(scope="module")
def utils():
    name = "dictionary_learning.utils"
    return pytest.importorskip(name, reason="the peer is not installed", exc_type=ImportError)


def run(module, x):
    """Activations and reconstructions of a peer's SAE."""
    with torch.no_grad():
        rows = torch.from_numpy(x)
        return module.encode(rows).numpy(), module(rows).numpy()


def agree(ours, theirs, atol=1e-5):
    h, x_hat = run(theirs, inputs())
    assert 0.05 < (h > 0).mean() < 0.95
    np.testing.assert_allclose(ours.encode(inputs()), h, atol=atol)
    np.testing.assert_allclose(ours(inputs()), x_hat, atol=atol)


def randomise(module, **scale):
    """Weights of a peer's SAE drawn at random; thresholds above 0."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(torch.randn_like(weight) * scale.get(name, 1.0))
            if "threshold" in name:
                weight.abs_()
    return module


# ------------------------------------------------------------------------------------------ SAELens


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saelens_opens_our_folder_and_reconstructs_alike(sae_lens, architecture, tmp_path):
    sae = make(architecture)
    theirs = sae_lens.SAE.load_from_disk(formats.save(sae, tmp_path / "sae"))
    agree(sae, theirs)
    assert theirs.cfg.metadata.hook_name == "blocks.3.hook_resid_pre"
    assert theirs.cfg.metadata.model_name == "gpt2"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saelens_opens_an_sae_without_b_dec(sae_lens, architecture, tmp_path):
    sae = make(architecture, b_dec=False)
    agree(sae, sae_lens.SAE.load_from_disk(formats.save(sae, tmp_path / "sae")))


def test_what_saelens_saves_again_is_still_what_we_saved(sae_lens, tmp_path):
    for architecture in ARCHITECTURES:
        sae = make(architecture)
        theirs = sae_lens.SAE.load_from_disk(formats.save(sae, tmp_path / architecture))
        theirs.save_model(tmp_path / "again" / architecture)
        back = formats.load(tmp_path / "again" / architecture)
        assert back.architecture == architecture
        np.testing.assert_array_equal(back.params.W_enc, sae.params.W_enc)
        assert back.metadata["matryoshka_widths"] == [4, D_SAE]


@pytest.mark.parametrize("apply", [True, False])
@pytest.mark.parametrize("name", ["Standard", "TopK", "JumpReLU", "Gated"])
def test_finished_saes_of_saelens_are_read(sae_lens, name, apply, tmp_path):
    config = getattr(sae_lens, f"{name}SAEConfig")
    more = {"k": K, "rescale_acts_by_decoder_norm": True} if name == "TopK" else {}
    theirs = getattr(sae_lens, f"{name}SAE")(
        config(d_in=D_IN, d_sae=D_SAE, apply_b_dec_to_input=apply, **more)
    )
    randomise(theirs).save_model(tmp_path / "sae")
    agree(formats.load(tmp_path / "sae"), theirs, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_saes_of_half_precision_differ_by_the_rounding_of_their_products(sae_lens, dtype, tmp_path):
    config = sae_lens.StandardSAEConfig(d_in=D_IN, d_sae=D_SAE, dtype=dtype)
    randomise(sae_lens.StandardSAE(config)).save_model(tmp_path / "sae")
    # The same numbers, computed with in float32.
    theirs = sae_lens.SAE.load_from_disk(tmp_path / "sae", dtype="float32")
    agree(formats.load(tmp_path / "sae"), theirs)


TRAINED = ("Standard", "TopK", "JumpReLU", "Gated", "BatchTopK", "MatryoshkaBatchTopK")


def training_sae(sae_lens, name, **more):
    """An SAE of SAELens in the middle of its training."""
    if "TopK" in name:
        more["k"] = K
    if name == "MatryoshkaBatchTopK":
        more["matryoshka_widths"] = [4, D_SAE]
    config = getattr(sae_lens, f"{name}TrainingSAEConfig")(d_in=D_IN, d_sae=D_SAE, **more)
    sae = randomise(getattr(sae_lens, f"{name}TrainingSAE")(config))
    if "Batch" in name:
        sae.topk_threshold.fill_(0.6)
    return sae


@pytest.mark.parametrize("name", TRAINED)
def test_what_saelens_saves_when_a_training_is_over_is_read(sae_lens, name, tmp_path):
    training_sae(sae_lens, name).save_inference_model(tmp_path / "sae")
    ours = formats.load(tmp_path / "sae")
    agree(ours, sae_lens.SAE.load_from_disk(tmp_path / "sae"), atol=2e-5)
    kind = {"Standard": "relu", "JumpReLU": "jumprelu", "MatryoshkaBatchTopK": "matryoshka"}
    assert ours.architecture == kind.get(name, name.lower())
    assert ours.k == (K if "TopK" in name else 0)


@pytest.mark.parametrize("name", TRAINED)
def test_a_checkpoint_of_saelens_is_what_it_would_save_in_the_end(sae_lens, name, tmp_path):
    sae = training_sae(sae_lens, name, normalize_activations="expected_average_only_in")
    sae.save_model(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "activation_scaler.json").write_text('{"scaling_factor": 0.5}')
    sae.fold_activation_norm_scaling_factor(0.5)
    sae.save_inference_model(tmp_path / "sae")
    ours = formats.load(tmp_path / "checkpoint")
    end = sae_lens.SAE.load_from_disk(tmp_path / "sae")
    h, x_hat = run(end, inputs())
    np.testing.assert_allclose(ours(inputs()), x_hat, atol=5e-5)
    np.testing.assert_array_equal(ours.encode(inputs()) > 0, h > 0)


def test_other_architectures_of_saelens_are_refused(sae_lens, tmp_path):
    sizes = {"d_in": D_IN, "d_sae": D_SAE, "apply_b_dec_to_input": False}
    others = {
        "transcoder": sae_lens.Transcoder(sae_lens.TranscoderConfig(**sizes, d_out=D_IN)),
        "abstopk": sae_lens.AbsTopKSAE(sae_lens.AbsTopKSAEConfig(**sizes, k=K)),
    }
    for name, sae in others.items():
        sae.save_model(tmp_path / name)
        with pytest.raises(
            ValueError, match=rf"cfg.json: architecture: got '{name}', allowed: standard"
        ):
            formats.load(tmp_path / name)


@pytest.mark.parametrize("normalisation", ["layer_norm", "constant_norm_rescale"])
def test_normalisations_that_are_not_linear_are_refused(sae_lens, normalisation, tmp_path):
    config = sae_lens.StandardSAEConfig(d_in=D_IN, d_sae=D_SAE, normalize_activations=normalisation)
    sae_lens.StandardSAE(config).save_model(tmp_path / "sae")
    with pytest.raises(
        ValueError, match=f"normalize_activations: got '{normalisation}', allowed: none"
    ):
        formats.load(tmp_path / "sae")


# ------------------------------------------------------------------------------ dictionary_learning


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saelens_reads_our_dictionary_learning_folder_alike(
    sae_lens, architecture, tmp_path, monkeypatch
):
    from sae_lens.loading import pretrained_sae_loaders as loaders

    sae = make(architecture)
    formats.save(sae, tmp_path / "sae", "dictionary_learning")
    monkeypatch.setattr(
        loaders, "hf_hub_download", lambda repo_id, filename, **_: tmp_path / filename
    )
    config, state, _ = loaders.dictionary_learning_sae_huggingface_loader_1("owner/name", "sae")
    assert config["hook_name"] == "blocks.2.hook_resid_post"  # the same as before block 3
    assert config["model_name"] == "gpt2"
    assert config["context_size"] == 16
    theirs = sae_lens.SAE.from_dict(loaders.handle_config_defaulting(config))
    theirs.load_state_dict(state)
    agree(sae, theirs)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dictionary_learning_opens_our_folder_and_reconstructs_alike(utils, architecture, tmp_path):
    sae = make(architecture)
    folder = formats.save(sae, tmp_path / "sae", "dictionary_learning")
    theirs, config = utils.load_dictionary(str(folder), device="cpu")
    assert type(theirs).__name__ == config["trainer"]["dict_class"]
    agree(sae, theirs)


def test_dictionary_learning_gives_an_autoencoder_decoder_rows_of_norm_1(utils, tmp_path, capsys):
    sae = make("relu", unit_norm=False)
    folder = formats.save(sae, tmp_path / "sae", "dictionary_learning")
    theirs, _ = utils.load_dictionary(str(folder), device="cpu")
    h, x_hat = run(theirs, inputs())
    np.testing.assert_allclose(sae(inputs()), x_hat, atol=1e-4)
    norms = np.linalg.norm(sae.params.W_dec, axis=1)
    np.testing.assert_allclose(sae.encode(inputs()) * norms, h, atol=1e-4)
    as_it_is = type(theirs).from_pretrained(str(folder / "ae.pt"), normalize_decoder=False)
    agree(sae, as_it_is)


def test_dictionaries_of_dictionary_learning_are_read(utils, tmp_path):
    made = {
        "AutoEncoder": utils.AutoEncoder(D_IN, D_SAE),
        "AutoEncoderNew": utils.AutoEncoderNew(D_IN, D_SAE),
        "GatedAutoEncoder": utils.GatedAutoEncoder(D_IN, D_SAE),
        "AutoEncoderTopK": utils.AutoEncoderTopK(D_IN, D_SAE, K),
        "BatchTopKSAE": utils.BatchTopKSAE(D_IN, D_SAE, K),
        "JumpReluAutoEncoder": utils.JumpReluAutoEncoder(D_IN, D_SAE),
        "MatryoshkaBatchTopKSAE": utils.MatryoshkaBatchTopKSAE(D_IN, D_SAE, K, [4, D_SAE - 4]),
    }
    for name, theirs in made.items():
        folder = tmp_path / name
        folder.mkdir()
        randomise(theirs)
        if name in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
            theirs.threshold.fill_(0.5)
        torch.save(theirs.state_dict(), folder / "ae.pt")
        trainer = {"dict_class": name, "lm_name": "EleutherAI/pythia-70m", "k": K}
        (folder / "config.json").write_text(json.dumps({"trainer": trainer}))
        ours = formats.load(folder)
        agree(ours, theirs, atol=2e-5)
        assert ours.metadata["trainer"] == trainer
