"""The GPT-2 command at a tiny size: its parts by hand, its stages, and interruptions."""

import csv

import numpy as np
import pytest
from helpers.gpt2_study import HOOK, TABLES, TINY, TWO, found, losses_by_hand, reused, row_of, run

from saejax import load
from saejax.core.files import read_rows
from saejax.data.store.manifest import read_manifest
from saejax.data.store.reader import Store
from saejax.data.store.source import StoreSource
from saejax.experiments.gpt2 import __main__ as gpt2
from saejax.experiments.language import stages as language_stages
from saejax.lm.corpus import load_corpus
from saejax.lm.harvest import harvest
from saejax.lm.training import load_lm
from saejax.results.workdir import read_run
from saejax.sae.registry import ReLU

# The SAE that is computed by hand, and its dead threshold.
CELL = {"l1": 0.01, "ratio": 2.0, "resample": "on", "seed": 1}
DEAD = 0.06
STAGES = ("text", "language model", "activations", "dictionaries")


# -------------------------------------------------------------------------------------- a whole run


def test_a_run_leaves_every_part(finished):
    info = read_run(finished)
    assert info["finished"]
    assert [row["stage"] for row in info["stages"]] == [*STAGES, "analysis"]
    assert not any(row["reused"] for row in info["stages"])
    assert info["coords"] == {
        "l1": [0.01, 0.3],
        "expansion": [1, 2],
        "resample": [*ReLU.revivals],
        "seed": [0, 1],
    }
    for name in ("config.flags", "analysis.npz", "lm/text", "lm/model", "store", "dictionaries"):
        assert (finished / name).exists(), name
    with (finished / "results.csv").open() as file:
        order = [(r["seed"], r["ratio"], r["l1"], r["resample"]) for r in csv.DictReader(file)]
    ways = [
        (s, r, l1, w) for s in "01" for r in "12" for l1 in ("0.01", "0.3") for w in ReLU.revivals
    ]
    assert order == ways
    counts = {name: len(read_rows(finished / "analysis" / f"{name}.jsonl")) for name in TABLES}
    assert counts["cells"] == counts["rates"] == 32
    assert counts["labels"] == sum(
        r["judged"] for r in read_rows(finished / "analysis/rates.jsonl")
    )
    assert counts["labels"] > 60
    assert counts["agreement"] == 0
    assert len(read_rows(finished / "claims.jsonl")) > 10
    with np.load(finished / "analysis.npz") as file:
        assert file["history/dead_latents"].shape == (2, 1, 2, 2, 2, 1, 4, 1, 1)


def test_the_viewer_has_a_page_for_every_sae_of_the_first_seed(finished):
    names = {
        f"{ratio}x_l1-{l1}_{way}_seed-0.html"
        for ratio in "12"
        for l1 in (0.01, 0.3)
        for way in ReLU.revivals
    }
    assert {p.name for p in (finished / "viewer").iterdir()} == names | {"index.html"}
    index = (finished / "viewer" / "index.html").read_text()
    assert f"Latents of 16 SAEs at {HOOK}" in index


def test_the_page_shows_it(finished):
    page = (finished / "report.html").read_text()
    figures = {p.stem for p in (finished / "figures").iterdir()}
    assert figures >= {
        "dead",
        "dead_over_training",
        "fvu",
        "recovered_mean",
        "monosemantic_offline",
        "loss",
    }
    assert page.count("<img") == len(figures)
    tables = {p.stem for p in (finished / "tables").iterdir()}
    assert tables >= {
        "dead",
        "dead_delta",
        "kept",
        "labels",
        "cells",
        "monosemantic_offline",
        "claims",
    }
    assert 'href="viewer/index.html"' in page
    assert HOOK in page


def test_the_flags_of_reviving_reach_the_training(finished):
    rule = load(finished / "dictionaries").run["settings"]["resample"]
    assert rule == {
        "every": 8,
        "window": 3,
        "threshold": DEAD,
        "bias": -0.03,
        "ghost_after": 4,
        "aux_after": 0,
    }


# ------------------------------------------------------------------------------------------ by hand


@pytest.fixture(scope="module")
def hand(finished):
    """The SAE computed by hand, in float64: a function that gives h and x_hat."""
    p = load(finished / "dictionaries").dictionary(**CELL)
    W_enc, b_enc, W_dec, b_dec = (np.float64(a) for a in (p.W_enc, p.b_enc, p.W_dec, p.b_dec))

    def autoencode(x):
        h = np.maximum((x - b_dec) @ W_enc + b_enc, 0)
        return h, h @ W_dec + b_dec

    return autoencode


def test_dead_latents_and_errors_are_those_on_the_held_out_batches(finished, hand):
    store = Store.open(finished / "store")
    x = np.float64(store.rows(StoreSource(store, 0.05).held_out_rows(64)))
    h, x_hat = hand(x)
    row = row_of(finished, "cells", **CELL)
    assert row["dead"] == (h.max(0) <= DEAD).mean()
    assert 0 < row["dead"] < 1
    # Another threshold counts another number, so that the right one is seen.
    assert row["dead"] != (h.max(0) <= 0).mean()
    assert row["l0"] == pytest.approx((h > 0).sum(1).mean(), abs=0.04)
    assert row["mse"] == pytest.approx(((x_hat - x) ** 2).mean(), rel=1e-4)
    fvu = ((x_hat - x) ** 2).sum() / ((x - x.mean(0)) ** 2).sum()
    assert row["fvu"] == pytest.approx(fvu, rel=1e-4)


def test_the_loss_recovered_is_that_of_validation_text(finished, hand):
    corpus, lm = load_corpus(finished / "lm" / "text"), load_lm(finished / "lm" / "model")
    losses = losses_by_hand(lm.model, corpus.validation, HOOK, hand)
    row, info = row_of(finished, "cells", **CELL), read_run(finished)
    assert row["loss"] == pytest.approx(losses["own"], rel=1e-5)
    for name in ("clean", "zero", "mean"):
        assert info["losses"][name] == pytest.approx(losses[name], rel=1e-5)
    for name in ("zero", "mean"):
        share = (losses[name] - losses["own"]) / (losses[name] - losses["clean"])
        assert row[f"recovered_{name}"] == pytest.approx(share, abs=2e-3)


@pytest.fixture(scope="module")
def sample(finished, hand):
    """Activations on the sample by hand: whole windows of 16 rows, as many as reach 400, spread."""
    store = Store.open(finished / "store")
    # 94 windows hold 1500 rows, the last one 12; 400 tokens are 25.07 windows.
    starts = 16 * np.unique(np.linspace(0, 93, 26).round().astype(int))
    rows = np.concatenate([np.arange(s, min(s + 16, 1500)) for s in starts])
    return hand(np.float64(store.rows(rows)))[0]


def test_firings_are_counted_on_the_sample(finished, sample):
    row = row_of(finished, "cells", **CELL)
    firings = (sample > 0).sum(0)
    assert row["dead_on_sample"] == (sample.max(0) <= DEAD).mean()
    assert row["fires_rarely"] == (firings < 5).mean()
    assert row["median_density"] == pytest.approx(np.median(firings) / len(sample))


def test_labelled_are_the_latents_of_highest_and_lowest_selectivity(finished, sample):
    firings = (sample > 0).sum(0)
    selectivity = sample.sum(0) / firings.clip(1) / np.log(firings.clip(1) + 1)
    often = [i for i in np.argsort(-selectivity) if firings[i] >= 5]
    assert len(often) > 6
    labels = [r for r in read_rows(finished / "analysis/labels.jsonl") if CELL.items() <= r.items()]
    assert [row["latent"] for row in labels] == [*often[:3], *often[-3:]]
    assert [row["half"] for row in labels] == ["top"] * 3 + ["bottom"] * 3
    for row in labels:
        i = row["latent"]
        assert row["firings"] == firings[i]
        assert row["selectivity"] == pytest.approx(selectivity[i], rel=1e-4)
        assert row["highest"] == pytest.approx(sample[:, i].max(), rel=1e-4)
        assert row["label"]
    own = [row["label"] != "POLYSEMANTIC" for row in labels]
    rate = row_of(finished, "rates", **CELL)
    assert (rate["judged"], rate["rate"]) == (6, np.mean(own))


def test_correlations_of_the_labelled_within_their_half_and_across(finished, sample):
    name = "2x_l1-0.01_on_seed-1"
    with np.load(finished / "analysis.npz") as file:
        latents, got = file[f"labelled/{name}"], file[f"correlation/{name}"]
    expected = np.corrcoef(sample[:, latents].T)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    half, same = np.arange(6) // 3, ~np.eye(6, dtype=bool)
    row, alike = row_of(finished, "cells", **CELL), half[:, None] == half
    assert row["within"] == pytest.approx(expected[alike & same].mean(), abs=1e-4)
    assert row["across"] == pytest.approx(expected[~alike].mean(), abs=1e-4)


# ------------------------------------------------------------------------------------------ reusing


def test_a_second_run_reuses_every_stage_and_finds_the_same(finished, texts, tmp_path, capsys):
    path = tmp_path / "again"
    run(*TINY, f"--folder={texts}", f"--workdir={path}", "--viewer=none", *reused(finished))
    printed = capsys.readouterr().out
    for name in STAGES:
        assert f"{name}: skipped, reused {finished}" in printed
    assert "viewer:" not in printed
    assert sorted(p.name for p in path.iterdir() if p.is_dir()) == ["analysis", "figures", "tables"]
    # Rows do not depend on which SAEs have pages.
    assert found(path) == found(finished)
    assert "viewer/index.html" not in (path / "report.html").read_text()
    assert [row["reused"] for row in read_run(path)["stages"]] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "--vocab_size=270",
            r"workdir_lm: got .*text.*: tokenizer.vocab_size: got 270, allowed: 280",
        ),
        ("--lm_lr=0.02", r"settings.lr: got 0.02, allowed: 0.01"),
        (
            "--hook=blocks.0.hook_resid_pre",
            "store: got .*: hook: got 'blocks.0.hook_resid_pre', allow",
        ),
        ("--drop_first", "store: got .*; model.packing.drop_first: got True, allowed"),
        (
            "--resample=off,on,ghost",
            "dictionaries: got .*: coords.resample: got .*, allowed: .*anthropi",
        ),
        ("--resample_bias=-0.02", "settings.resample.bias: got -0.02, allowed: -0.03"),
        ("--dead_threshold=0.07", "settings.resample.threshold: got 0.07, allowed: 0.06"),
        ("--ghost_after=5", "settings.resample.ghost_after: got 5, allowed: 4"),
    ],
)
def test_a_stage_of_other_settings_is_refused(finished, texts, tmp_path, flag, message):
    arguments = [*TINY, f"--folder={texts}", f"--workdir={tmp_path / 'x'}", *reused(finished), flag]
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        run(*arguments)
    assert not (tmp_path / "x" / "analysis.npz").exists()


def test_a_frozen_sae_has_no_numbers_and_no_labels(finished, texts, tmp_path):
    path = tmp_path / "run"
    stages = reused(finished, dictionaries=path / "dictionaries")
    run(*TINY, *TWO, f"--folder={texts}", f"--workdir={path}", *stages, "--lr=1e15")
    for row in read_rows(path / "analysis" / "cells.jsonl"):
        assert {row[name] for name in ("l1", "ratio", "d_sae", "seed")} == {0.01, 2.0, 16, 0}
        rest = [value for name, value in row.items() if name not in (*CELL, "d_sae")]
        assert rest == [None] * 12
    assert {row["judged"] for row in read_rows(path / "analysis" / "rates.jsonl")} == {0}
    assert not read_rows(path / "analysis" / "labels.jsonl")
    assert "2 SAEs were frozen as not finite" in (path / "report.html").read_text()
    assert {row["seeds"] for row in read_rows(path / "claims.jsonl")} == {0}


# -------------------------------------------------------------------------------------- interrupted


def test_an_interrupted_run_goes_on(finished, texts, tmp_path, monkeypatch):
    path = tmp_path / "run"
    start = [*TINY, f"--folder={texts}", f"--workdir={path}"]
    arguments = [*start, f"--workdir_lm={finished / 'lm'}"]

    def stops_after_a_batch(*given, **named):
        yield next(harvest(*given, **named))
        raise KeyboardInterrupt

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(language_stages, "harvest", stops_after_a_batch)
        with pytest.raises(
            SystemExit, match=f"interrupted; whole stages are kept in {path}, the same"
        ):
            run(*arguments)
    # A batch is 64 windows of 16 tokens, a shard 400 rows.
    assert read_manifest(path / "store").rows == 800
    assert not read_run(path)["finished"]
    with pytest.raises(
        SystemExit, match=f"error: workdir: got '{path}', where .*: batch_size: got '16'"
    ):
        run(*arguments, "--batch_size=16")
    arguments += [f"--dictionaries={finished / 'dictionaries'}"]
    with monkeypatch.context() as m:
        m.setattr(gpt2.claims, "of_gpt2", stop)
        with pytest.raises(SystemExit, match="interrupted"):
            run(*arguments)
    # What it left of the viewer is replaced, by whatever it was made.
    assert (path / "viewer" / "index.html").exists()
    (path / "viewer" / "index.html").write_text("old")
    (path / "viewer" / "old.html").write_text("old")
    run(*arguments)
    assert read_run(path)["finished"]
    assert found(path) == found(finished)
    left = [sorted(p.name for p in (one / "viewer").iterdir()) for one in (path, finished)]
    assert left[0] == left[1]
    assert (path / "viewer" / "index.html").read_text() != "old"


def test_a_finished_run_is_not_overwritten(finished, texts):
    before = (finished / "run.json").read_bytes()
    with pytest.raises(SystemExit, match=r"error: workdir: .* holds a run already"):
        run(*TINY, f"--folder={texts}", f"--workdir={finished}")
    assert (finished / "run.json").read_bytes() == before
