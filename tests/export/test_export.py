"""A sweep as folders: which cells, what stands beside them, and that nothing is overwritten."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.exported import COORDS, FROZEN, KINDS, RUN, SHAPE, rows
from helpers.saes import D_SAE, inputs

from saejax.export import command, formats
from saejax.export.command import export
from saejax.results.axes import AXES

NAMES = {
    f"acts_seed-{s}_ratio-2_{rest}"
    for s in (0, 1)
    for rest in (
        "l1-0.25_architecture-relu_k-0",
        "l1-0_architecture-topk_k-3",
        "l1-0_architecture-nested_k-3",
    )
}


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


# --------------------------------------------------------------------------------------- what is in


def test_every_cell_becomes_a_folder_that_reconstructs_as_the_cell_does(workdir, result):
    done = export(workdir)
    assert done.folder == workdir / "export-saelens"
    assert {p.name for p in done.folder.iterdir()} == NAMES - {FROZEN} | {"cells.csv", "README.md"}
    assert done.skipped == (FROZEN,)
    for row in done.cells:
        back = formats.load(done.folder / row["cell"])
        wanted = result.sae(**{name: row[name] for name in AXES})
        assert back.architecture == wanted.architecture == KINDS[row["architecture"]]
        np.testing.assert_allclose(back(inputs()), wanted(inputs()), atol=1e-5)


def test_the_index_has_coordinates_widths_and_measurements(workdir):
    done = export(workdir)
    table = rows(done.folder)
    assert {row["cell"] for row in table} == NAMES - {FROZEN}
    assert list(table[0]) == ["cell", *AXES, "d_sae", "l0", "fvu"]
    last = next(
        r for r in table if r["cell"] == "acts_seed-1_ratio-2_l1-0.25_architecture-relu_k-0"
    )
    assert (last["l1"], last["k"], last["d_sae"], last["fvu"]) == ("0.25", "0", "12", "0.25")


def test_each_folder_says_what_it_comes_from(workdir):
    done = export(workdir)
    cell = "acts_seed-0_ratio-2_l1-0_architecture-nested_k-3"
    about = json.loads((done.folder / cell / "cfg.json").read_text())["metadata"]
    assert about["model_name"] == "gpt2"
    assert about["hook_name"] == "blocks.2.hook_resid_pre"
    assert (about["context_size"], about["prepend_bos"]) == (16, True)
    assert about["model_from_pretrained_kwargs"] == {"center_writing_weights": False}
    assert (about["seed"], about["k"], about["steps"]) == (0, 3, 20)
    assert about["metrics"] == {"fvu": 0.45, "l0": 4.5}
    assert about["matryoshka_widths"] == [3, D_SAE]
    assert about["training_architecture"] == "matryoshka_batchtopk"


def test_data_of_no_language_model_need_none(result, tmp_path):
    result.run["data"] = {"acts": {"type": "synthetic", "n_features": 9}}
    done = export(result, tmp_path / "out")
    about = formats.load(done.folder / done.cells[0]["cell"]).metadata
    assert not {"model_name", "hook_name"} & set(about)
    assert "- `acts`: type `synthetic`, n_features `9`" in (done.folder / "README.md").read_text()


def test_imported_activations_carry_the_name_they_were_given(result, tmp_path):
    model = {"name": "gpt2-medium", "files": [{"name": "acts.npy"}]}
    result.run["data"]["acts"] = RUN["data"]["acts"] | {"model": model}
    done = export(result, tmp_path / "out")
    about = formats.load(done.folder / done.cells[0]["cell"]).metadata
    assert (about["model_name"], about["context_size"]) == ("gpt2-medium", None)
    assert "prepend_bos" not in about


def test_measurements_that_are_not_finite_are_left_out_of_the_folders(result, tmp_path):
    result.final["mmcs_to_next_larger"] = np.full(SHAPE, np.nan)
    done = export(result, tmp_path / "out")
    about = formats.load(done.folder / done.cells[0]["cell"]).metadata
    assert set(about["metrics"]) == {"fvu", "l0"}
    assert rows(done.folder)[0]["mmcs_to_next_larger"] == ""


def test_dictionary_learning_is_a_format_too(workdir):
    pytest.importorskip("torch", reason="ae.pt is a file of torch")
    done = export(workdir, format="dictionary_learning")
    assert done.folder == workdir / "export-dictionary_learning"
    for row in done.cells:
        assert formats.load(done.folder / row["cell"]).architecture == KINDS[row["architecture"]]
    assert "load_dictionary(" in (done.folder / "README.md").read_text()
    assert export(workdir, format="dictionary_learning").was_there


# ------------------------------------------------------------------------------------------ the
# card


def test_the_card_says_what_was_trained_and_shows_the_best_first(workdir):
    text = (export(workdir).folder / "README.md").read_text()
    best = "acts_seed-1_ratio-2_l1-0.25_architecture-relu_k-0"
    for words in (
        "library_name: saelens",
        "# 5 sparse autoencoders of inputs of width 5",
        f'("{best}")',
        "- architecture: `relu`, `topk`, `nested`",
        "- steps: 20, of 8 samples",
        f"- frozen as not finite, and left out: `{FROZEN}`",
        '"batch_size": 8',
        '"jax": "0.10.2"',
        "- `acts`: type `store`, hook `blocks.2.hook_resid_pre`",
        "model `gpt2`",
        "| cell | d_sae | fvu | l0 |",
    ):
        assert words in text, words
    table = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| `")]
    assert table[0] == f"`{best}`"
    assert len(table) == 5
    # What a store says of its text may hold paths of the machine.
    assert "secret" not in text


def test_the_card_ranks_by_recovery_where_the_features_are_known(result, tmp_path):
    # The worst by fvu recovers most.
    result.final["mmcs_true_to_dict"] = result.final["fvu"]
    text = (export(result, tmp_path / "out").folder / "README.md").read_text()
    table = [line.split("|")[3].strip() for line in text.splitlines() if line.startswith("| `")]
    assert table == ["0.5", "0.45", "0.4", "0.3", "0.25"]


def test_the_card_shows_at_most_ten(result, tmp_path):
    many = tuple(range(6))
    coords = COORDS | {"seed": many}
    final = {n: np.repeat(a[:, :1], 6, axis=1) for n, a in result.final.items()}
    more = replace(result, coords=coords, final=final)
    text = (export(more, tmp_path / "out").folder / "README.md").read_text()
    assert "The best 10 of 18:" in text
    assert sum(line.startswith("| `") for line in text.splitlines()) == 10


def test_the_hub_understands_the_front_matter(workdir):
    hub = pytest.importorskip("huggingface_hub", reason="it parses the card")
    card = hub.ModelCard.load(export(workdir).folder / "README.md")
    assert card.data.library_name == "saelens"
    assert card.data.tags == ["sparse-autoencoder", "saejax"]
    assert card.data.license is None


# ------------------------------------------------------------------------------- what is asked for


def test_coordinates_choose_the_cells(workdir):
    done = export(workdir, workdir.parent / "out", where={"architecture": "relu"})
    assert {row["cell"] for row in done.cells} == {n for n in NAMES if "relu" in n}
    assert done.skipped == ()
    with pytest.raises(ValueError, match=r"l1: got 0.3, allowed: 0.0, 0.25"):
        export(workdir, workdir.parent / "other", where={"l1": 0.3})
    with pytest.raises(
        ValueError, match=f"where: got cells that were all frozen .{FROZEN}., allowed"
    ):
        export(workdir, workdir.parent / "other", where={"architecture": "topk", "seed": 1})
    assert not (workdir.parent / "other").exists()


def test_text_becomes_coordinates_of_the_axes_own_types(result):
    got = command.parse_where("l1=0.25,architecture=relu,seed=1", result)
    assert got == {"l1": 0.25, "architecture": "relu", "seed": 1}
    assert [type(v) for v in got.values()] == [float, str, int]
    assert command.parse_where("", result) == {}
    assert command.parse_where("l1=much", result) == {"l1": "much"}
    for text in ("l1", "l1=1,l1=2", "l1=1,"):
        with pytest.raises(
            ValueError, match=f"where: got '{text}', allowed: axis=value,axis=value"
        ):
            command.parse_where(text, result)


def test_arguments_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(
        ValueError, match="format: got 'onnx', allowed: saelens, dictionary_learning"
    ):
        export(tmp_path / "nowhere", format="onnx")
    with pytest.raises(FileNotFoundError, match="which holds no run"):
        export(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


def test_a_result_needs_a_folder(result):
    with pytest.raises(ValueError, match="out: got None, allowed: a folder"):
        export(result)


def test_a_run_that_has_not_ended_has_no_dictionaries(workdir):
    for file in (workdir / "dictionaries").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match="absent; dictionaries are written when a run ends"):
        export(workdir)
    assert not [p for p in workdir.iterdir() if "export" in p.name]


# ---------------------------------------------------------------------------- nothing is
# overwritten


def test_the_same_export_is_left_as_it_is_with_its_edited_card(workdir):
    done = export(workdir)
    assert not done.was_there
    (done.folder / "README.md").write_text("license: mit")
    (done.folder / ".cache").mkdir()
    (done.folder / ".cache" / "upload").write_text("")
    before = contents(done.folder)
    assert export(workdir).was_there
    assert contents(done.folder) == before
    assert not [p.name for p in workdir.iterdir() if ".part" in p.name]


@pytest.mark.parametrize("case", ["other weights", "missing", "more", "other cells"])
def test_another_export_in_the_way_is_named_and_untouched(case, workdir):
    folder = export(workdir).folder
    cell = sorted(NAMES - {FROZEN})[0]
    weights = folder / cell / "sae_weights.safetensors"
    if case == "other weights":
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    elif case == "missing":
        weights.unlink()
    elif case == "more":
        (folder / cell / "notes.txt").write_text("mine")
    before = contents(folder)
    named = {"more": "notes.txt", "other cells": "acts_"}.get(case, "sae_weights.safetensors")
    with pytest.raises(FileExistsError, match=f"holds another export .another .*{named}"):
        export(workdir, where={"seed": 0} if case == "other cells" else None)
    assert contents(folder) == before


def test_other_files_in_the_way_are_refused_at_once(result, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    read = replace(result, load_params=lambda index: pytest.fail("weights were read"))
    with pytest.raises(
        FileExistsError, match="which holds other files; allowed: a folder that is new"
    ):
        export(read, tmp_path / "out")
    assert contents(tmp_path / "out") == {"mine": b""}
