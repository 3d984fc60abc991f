"""Folders that are no SAE, are damaged, or hold what saejax cannot tell."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.sae_folders import NEEDS_TORCH, edit, retensor
from helpers.saes import D_SAE, make

from saejax.export import formats
from saejax.export.formats import saelens

# ------------------------------------------------------------------------------------------- errors


def test_nothing_is_overwritten(format, tmp_path):
    (tmp_path / "sae").mkdir()
    formats.save(make("relu"), tmp_path / "sae", format)
    before = {p: p.read_bytes() for p in (tmp_path / "sae").iterdir()}
    with pytest.raises(
        FileExistsError, match=r"folder: got .*sae', which holds other files; allowed"
    ):
        formats.save(make("topk"), tmp_path / "sae", format)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="which is a file"):
        formats.save(make("topk"), tmp_path / "file", format)
    assert {p: p.read_bytes() for p in (tmp_path / "sae").iterdir()} == before
    assert {p.name for p in tmp_path.iterdir()} == {"sae", "file"}


def test_a_folder_that_cannot_be_written_whole_is_absent(tmp_path):
    sae = make("relu", metadata={"words": object()})
    with pytest.raises(TypeError, match="not JSON serializable"):
        formats.save(sae, tmp_path / "sae")
    assert not list(tmp_path.iterdir())


def test_dictionary_learning_has_no_batch_topk_without_k(tmp_path):
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    for architecture in ("batchtopk", "matryoshka"):
        with pytest.raises(ValueError, match="k: got 0, allowed: 1 or more"):
            formats.save(make(architecture, k=0), tmp_path / "sae", "dictionary_learning")
    widths = {"matryoshka_widths": [4, 4, D_SAE]}
    with pytest.raises(ValueError, match=r"matryoshka_widths: got \[4, 4, 12\], allowed: rising"):
        formats.save(make("matryoshka", metadata=widths), tmp_path / "sae", "dictionary_learning")
    assert not list(tmp_path.iterdir())


def test_nested_sizes_that_are_not_known_are_one_group(tmp_path):
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    formats.save(make("matryoshka", metadata={}), tmp_path / "sae", "dictionary_learning")
    assert formats.load(tmp_path / "sae").metadata["matryoshka_widths"] == [D_SAE]


def test_unknown_formats_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match="format: got 'onnx', allowed: saelens, dictionary_learning"
    ):
        formats.save(make("relu"), tmp_path / "sae", "onnx")


def test_errors_name_the_files_that_are_missing(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"with no file of an SAE, allowed: cfg\.json and sae_"
    ):
        formats.load(tmp_path)
    formats.save(make("relu"), tmp_path / "sae")
    (tmp_path / "sae" / "cfg.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"with sae_weights\.safetensors, allowed: cfg\.json"
    ):
        formats.load(tmp_path / "sae")


def test_a_folder_of_both_formats_is_ambiguous(tmp_path):
    formats.save(make("relu"), tmp_path / "sae")
    for name in ("config.json", "ae.pt"):
        (tmp_path / "sae" / name).write_text("")
    with pytest.raises(ValueError, match="with files of both formats"):
        formats.load(tmp_path / "sae")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architecture": "jumprelu_transcoder"},
            r"architecture: got 'jumprelu_transcoder', allowed",
        ),
        ({"architecture": "abstopk"}, r"architecture: got 'abstopk', allowed: standard, topk"),
        ({"d_sae": 13}, r"W_enc: got the shape \(5, 12\), allowed: \(5, 13\), the d_in and d_sae"),
        (
            {"normalize_activations": "layer_norm"},
            r"normalize_activations: got 'layer_norm', allowed",
        ),
        (
            {"normalize_activations": "covariance_whitening"},
            "got 'covariance_whitening', allowed: none",
        ),
        (
            {"architecture": "topk"},
            r"cfg.json: k: got 0, allowed: a whole number from 1 to d_sae=12",
        ),
        (
            {"architecture": "topk", "k": 13},
            r"k: got 13, allowed: a whole number from 1 to d_sae=12",
        ),
        ({"architecture": "gated"}, "got no tensor b_gate, allowed: W_enc, W_dec, b_dec, b_gate"),
    ],
)
def test_what_saejax_cannot_tell_is_refused(changes, message, tmp_path):
    folder = formats.save(make("relu"), tmp_path / "sae")
    edit(folder / "cfg.json", **changes)
    with pytest.raises(ValueError, match=message):
        formats.load(folder)


def test_unknown_tensors_are_refused(tmp_path):
    folder = formats.save(make("relu"), tmp_path / "sae")
    retensor(folder, lambda tensors: tensors.update(W_skip=np.ones((5, 5), np.float32)))
    with pytest.raises(
        ValueError, match=r"got the tensor W_skip, allowed: W_enc, W_dec, b_dec, b_enc"
    ):
        formats.load(folder)


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors", "config.json", "ae.pt"])
def test_a_damaged_file_is_named(name, tmp_path):
    format = "saelens" if name in saelens.FILES else "dictionary_learning"
    if format == "dictionary_learning":
        pytest.importorskip("torch", reason=NEEDS_TORCH)
    folder = formats.save(make("relu"), tmp_path / "sae", format)
    (folder / name).write_bytes((folder / name).read_bytes()[:-30])
    with pytest.raises(
        ValueError, match=f"{name}: got a (damaged file|file that is no state dict)"
    ):
        formats.load(folder)
    if name.endswith(".json"):
        (folder / name).write_text("[1]")
        with pytest.raises(ValueError, match=f"{name}: got list, allowed: an object of JSON"):
            formats.load(folder)


def test_classes_of_no_known_name_are_refused(tmp_path):
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    folder = formats.save(make("relu"), tmp_path / "sae", "dictionary_learning")
    for trainer, got in (({"dict_class": "IdentityDict"}, "'IdentityDict'"), ({}, "None")):
        edit(folder / "config.json", trainer=trainer)
        with pytest.raises(
            ValueError, match=rf"trainer.dict_class: got {got}, allowed: AutoEncoder"
        ):
            formats.load(folder)


class Intruder:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_loading_runs_nothing_that_a_file_holds(tmp_path):
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    folder = formats.save(make("relu"), tmp_path / "sae", "dictionary_learning")
    with zipfile.ZipFile(folder / "ae.pt") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    inner = next(name for name in files if name.endswith("data.pkl"))
    files[inner] = pickle.dumps(Intruder(tmp_path / "intruded"), protocol=2)
    with zipfile.ZipFile(folder / "ae.pt", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match=r"ae.pt: got a file that is no state dict"):
        formats.load(folder)
    assert not (tmp_path / "intruded").exists()


def test_a_file_of_torch_that_is_no_state_dict_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    folder = formats.save(make("relu"), tmp_path / "sae", "dictionary_learning")
    torch.save([torch.ones(2)], folder / "ae.pt")
    with pytest.raises(ValueError, match=r"ae.pt: got list, allowed: a dict of tensors"):
        formats.load(folder)


def test_without_torch_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ImportError, match=r'ae.pt needs torch: pip install "saejax\[interop\]"'):
        formats.save(make("relu"), tmp_path / "sae", "dictionary_learning")
    assert not list(tmp_path.iterdir())
