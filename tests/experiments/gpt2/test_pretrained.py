"""The GPT-2 command on the files of a GPT-2."""

import hashlib
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.gpt2_study import GPT2_HOOK, found, losses_by_hand, reused, row_of, run
from safetensors.numpy import load_file, save_file

from saejax import load
from saejax.data.store.manifest import read_manifest
from saejax.data.store.reader import Store
from saejax.lm.corpus import load_corpus
from saejax.lm.gpt2 import load_gpt2
from saejax.lm.model import forward
from saejax.results.workdir import read_run


def test_the_store_is_of_gpt2_behind_its_first_position(on_gpt2, tiny_gpt2):
    corpus, store = load_corpus(on_gpt2 / "lm" / "text"), Store.open(on_gpt2 / "store", verify=True)
    assert not (on_gpt2 / "lm" / "model").exists()
    rows = np.arange(1200)
    np.testing.assert_array_equal(store.positions(rows), rows % 11 + 1)
    np.testing.assert_array_equal(store.token_ids(rows), corpus.train[:1200])
    bos = corpus.tokenizer().token_to_id("<|endoftext|>")
    windows = np.insert(corpus.train[: 109 * 11].reshape(109, 11).astype(int), 0, bos, axis=1)
    model = load_gpt2(tiny_gpt2).model
    x = np.asarray(forward(model, jnp.asarray(windows), (GPT2_HOOK,))[1][GPT2_HOOK])
    expected = x[:, 1:].reshape(-1, 8)
    np.testing.assert_allclose(store.rows(rows[:1199]), expected, rtol=2e-3, atol=2e-3)


def test_the_manifest_names_the_weights_and_the_packing(on_gpt2, tiny_gpt2):
    model = read_manifest(on_gpt2 / "store").config.model
    assert model["packing"] == {"context": 12, "bos": 0, "drop_first": True}
    assert model["pretrained"]["name"] == "tiny-gpt2"
    weights = (tiny_gpt2 / "model.safetensors").read_bytes()
    sha = model["pretrained"]["files"]["model.safetensors"]["sha256"]
    assert sha == hashlib.sha256(weights).hexdigest()


def test_the_first_position_keeps_its_activation_where_the_loss_is_measured(on_gpt2, tiny_gpt2):
    p = load(on_gpt2 / "dictionaries").dictionary(resample="on")
    model = load_gpt2(tiny_gpt2).model

    def autoencode(x):
        h = np.maximum((x - p.b_dec) @ p.W_enc + p.b_enc, 0)
        return h, h @ p.W_dec + p.b_dec

    tokens = load_corpus(on_gpt2 / "lm" / "text").validation
    losses = losses_by_hand(model, tokens, GPT2_HOOK, autoencode, 12, bos=0, first=1)
    row, info = row_of(on_gpt2, "cells", resample="on"), read_run(on_gpt2)
    assert row["loss"] == pytest.approx(losses["own"], rel=1e-5)
    for name in ("clean", "zero", "mean"):
        assert info["losses"][name] == pytest.approx(losses[name], rel=1e-5)


def test_the_report_names_the_model(on_gpt2):
    page = (on_gpt2 / "report.html").read_text()
    assert "<p>tiny-gpt2 of 2 layers with" in page
    assert "<td>packing drop_first</td><td>True</td>" in page
    assert len(list((on_gpt2 / "viewer").iterdir())) == 3


def test_a_changed_weight_is_another_model(on_gpt2, of_gpt2, tiny_gpt2, tmp_path):
    other = shutil.copytree(tiny_gpt2, tmp_path / "tiny-gpt2")
    tensors = load_file(other / "model.safetensors")
    tensors["ln_f.bias"][0] += 1
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    arguments = [*of_gpt2, f"--workdir={tmp_path / 'x'}", *reused(on_gpt2)]
    with pytest.raises(
        SystemExit,
        match=r"^error: store: .*pretrained.files.model.safetensors.sha256: got '\w+', allow",
    ):
        run(*arguments, f"--lm={other}")
    run(*arguments, f"--workdir={tmp_path / 'y'}", "--viewer=none")
    assert found(tmp_path / "y") == found(on_gpt2)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--context=17"], "context: got 17, allowed: up to the model's 16"),
        (
            ["--hook=blocks.2.hook_resid_pre"],
            "hook: got 'blocks.2.hook_resid_pre', allowed: blocks.0",
        ),
        (["--lm_revision=main"], "lm_revision: got 'main', allowed with a folder: None"),
        (["--expansion=0.3"], "expansion: got 0.3.*whole number"),
        (["--rows=0"], "held_out: got 0.06, which holds out 0 of rows=0"),
    ],
)
def test_flags_that_do_not_fit_the_model_leave_no_workdir(of_gpt2, tmp_path, flags, message):
    with pytest.raises(SystemExit, match=f"^error: {message}"):
        run(*of_gpt2, f"--workdir={tmp_path / 'x'}", *flags)
    assert not (tmp_path / "x").exists()
