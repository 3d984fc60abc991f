"""The GPT-2 command at a tiny size: its parts by hand, stages, GPT-2's files, a chat model's
labels."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import commands
from helpers.chat_server import KEY, Server, answer, completion
from helpers.viewer_boards import decoded
from safetensors.numpy import load_file, save_file

from saejax import load
from saejax.core.files import read_rows
from saejax.data.store.manifest import read_manifest
from saejax.data.store.reader import Store
from saejax.data.store.source import StoreSource
from saejax.experiments.gpt2 import __main__ as gpt2
from saejax.experiments.language import stages as language_stages
from saejax.lm.corpus import load_corpus
from saejax.lm.gpt2 import load_gpt2
from saejax.lm.harvest import harvest
from saejax.lm.model import forward
from saejax.lm.tokenizer import train_tokenizer
from saejax.lm.training import load_lm
from saejax.results.workdir import read_run
from saejax.sae.registry import ReLU

ROOT = Path(__file__).resolve().parents[2]
HOOK = "blocks.0.hook_resid_post"
TINY = [
    "--text=folder",
    "--validation_share=0.3",
    "--vocab_size=280",
    "--context=16",
    "--n_layers=1",
    "--d_model=8",
    "--d_mlp=32",
    "--n_heads=2",
    "--lm_steps=20",
    "--lm_eval_every=10",
    "--lm_batch_size=4",
    "--lm_warmup_steps=2",
    "--lm_eval_windows=8",
    f"--hook={HOOK}",
    "--rows=1500",
    "--rows_per_shard=400",
    "--expansion=1,2",
    "--l1=0.01,0.3",
    "--seeds=0-1",
    "--lr=0.01",
    "--resample=off,on,anthropic,ghost",
    "--resample_every=8",
    "--resample_window=3",
    "--resample_bias=-0.03",
    "--ghost_after=4",
    "--steps=20",
    "--eval_every=10",
    "--batch_size=32",
    "--eval_batches=2",
    "--held_out=0.05",
    "--sample_tokens=400",
    "--eval_windows=6",
    "--n_labelled=3",
    "--least_firings=5",
    "--label_contexts=4",
    "--dead_threshold=0.06",
]
# Two dictionaries, for what does not need a grid.
TWO = ["--expansion=2", "--l1=0.01", "--seeds=0", "--resample=off,on", "--ghost_after=0"]
# The SAE that is computed by hand, and its dead threshold.
CELL = {"l1": 0.01, "ratio": 2.0, "resample": "on", "seed": 1}
DEAD = 0.06
STAGES = ("text", "language model", "activations", "dictionaries")
TABLES = ("cells", "rates", "agreement", "labels")
WORDS = [f"{a}{b}" for a in ("cat", "dog", "sun", "hill", "mat") for b in ("", "s", "ly")]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    for i in range(40):
        (folder / f"{i:02d}.txt").write_text(" ".join(rng.choice(WORDS, 60)) + ".\n")
    return folder


def run(*arguments):
    """The command in this process; its printed lines are left to capsys."""
    with commands.parsing(gpt2) as parse:
        parse(*arguments)
        gpt2.main(["gpt2"])


@pytest.fixture(scope="module")
def finished(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("gpt2") / "run"
    run(*TINY, f"--folder={texts}", f"--workdir={path}")
    return path


def reused(finished, **instead):
    """Flags that reuse the stages of a finished run but for some."""
    folders = {name: finished / name for name in ("lm", "store", "dictionaries")} | instead
    flags = zip(("workdir_lm", "store", "dictionaries"), folders.values(), strict=True)
    return [f"--{flag}={folder}" for flag, folder in flags]


def found(path):
    """What the analysis left, byte by byte."""
    names = (*(f"analysis/{name}.jsonl" for name in TABLES), "claims.jsonl", "results.csv")
    return {name: (path / name).read_bytes() for name in names}


def row_of(path, table, **where):
    (row,) = (
        r for r in read_rows(path / "analysis" / f"{table}.jsonl") if where.items() <= r.items()
    )
    return row


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


def losses_by_hand(model, tokens, hook, autoencode, context=16, bos=None, first=0):
    """Mean losses in nats of 6 windows spread over a text, as they are and with three
    replacements."""
    length = context if bos is not None else context + 1
    at = np.linspace(0, tokens.size - length, 6).astype(int)
    windows = np.stack([tokens[i : i + length] for i in at]).astype(int)
    if bos is not None:
        windows = np.concatenate([np.full((6, 1), bos), windows], 1)
    read = jnp.asarray(windows[:, :-1])
    x = np.float64(forward(model, read, (hook,))[1][hook])
    others = {"clean": x, "zero": 0 * x, "own": autoencode(x)[1]}
    others["mean"] = np.broadcast_to(x[:, first:].mean((0, 1)), x.shape)
    out = {}
    for name, other in others.items():
        kept = np.concatenate([x[:, :first], other[:, first:]], 1)
        logits, _ = forward(model, read, replace={hook: jnp.asarray(kept, jnp.float32)})
        p = np.float64(jax.nn.log_softmax(logits))
        out[name] = -np.take_along_axis(p, windows[:, 1:, None], -1).mean()
    return out


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


# ------------------------------------------------------------------------------------------- GPT-2

GPT2_HOOK = "blocks.1.hook_resid_pre"


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


# --------------------------------------------------------------------------------------- chat model


def said(request):
    """What the server says of a latent: of some of them that they have one theme."""
    shown = request["messages"][1]["content"]
    return "POLYSEMANTIC" if hashlib.sha256(shown.encode()).digest()[0] % 3 == 0 else "<b>cats</b>"


def well(handler, request):
    return completion(answer(said(request)))


@pytest.fixture
def of_chat(finished, on_gpt2, texts, monkeypatch):
    """Flags of a run with a chat model at a server, on the stages of others."""
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    stages = {name: finished / name for name in ("lm", "store")}
    stages["dictionaries"] = finished.parent / "two"

    def flags(server):
        chat = [
            "--chat_model=some/model",
            f"--chat_url={server.url}",
            "--chat_key_variable=TEST_KEY",
        ]
        own = [*TINY, *TWO, f"--folder={texts}", "--viewer=all", *chat]
        return [*own, *reused(finished, dictionaries=stages["dictionaries"])]

    return flags


def test_a_chat_model_labels_too_and_a_rerun_asks_nothing_again(of_chat, tmp_path):
    path, again = tmp_path / "run", tmp_path / "again"
    with Server(well) as server:
        run(*of_chat(server), f"--workdir={path}")
        asked = len(server.requests)
        run(*of_chat(server), f"--workdir={again}", f"--chat_cache={path / 'label-cache'}")
        assert len(server.requests) == asked
        assert {h["Authorization"] for h in server.headers} == {f"Bearer {KEY}"}
    assert asked == len(list((path / "label-cache").iterdir()))
    assert found(again) == found(path)
    labels = read_rows(path / "analysis" / "labels.jsonl")
    assert len(labels) == 24
    assert 0 < asked <= 12
    for way in ("off", "on"):
        pair = [
            [
                row["label"] != "POLYSEMANTIC"
                for row in labels
                if (row["labeller"], row["resample"]) == (name, way)
            ]
            for name in ("offline", "some/model")
        ]
        row = row_of(path, "agreement", resample=way)
        assert row["labellers"] == "offline, some/model"
        assert row["judged"] == len(pair[0]) == len(pair[1])
        assert row["same"] == pytest.approx(np.mean(np.equal(*pair)))
        assert [row["rate_lowest"], row["rate_highest"]] == sorted(np.mean(pair, 1))
        rate = row_of(path, "rates", resample=way, labeller="some/model")
        assert rate["rate"] == np.mean(pair[1])
    page = (path / "report.html").read_text()
    assert "How far the two labellers agree" in page
    assert "<td>&lt;b&gt;cats&lt;/b&gt;</td>" in page
    assert "<b>cats" not in page
    tables = {p.stem for p in (path / "tables").iterdir()}
    assert tables >= {"agreement", "monosemantic_offline", "monosemantic_some-model"}
    # The viewer shows the labels of the last.
    meta = decoded(path / "viewer" / "2x_l1-0.01_on_seed-0.html")["meta"]
    shown = json.loads(meta)["labels"]
    own = {
        (r["latent"], r["label"])
        for r in labels
        if r["labeller"] != "offline" and r["resample"] == "on"
    }
    assert {(at, text or "POLYSEMANTIC") for at, text, _ in shown} == own
    assert {labeller for _, _, labeller in shown} == {"some/model"}
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) > 30
    assert not [p for p in files if KEY.encode() in p.read_bytes()]


def test_a_server_that_fails_ends_the_command_and_it_goes_on_from_the_answers(
    of_chat, tmp_path, capsys
):
    path = tmp_path / "run"
    refused = (401, {}, json.dumps({"error": {"message": f"bad key {KEY}"}}))
    with Server(well, well, refused) as server:
        arguments = [*of_chat(server), f"--workdir={path}"]
        with pytest.raises(
            SystemExit, match=r"^error: chat_model: .*status 401.*labels of \d of \d"
        ) as end:
            run(*arguments)
        assert "\n" not in str(end.value)
        assert KEY not in str(end.value) + "".join(capsys.readouterr())
        kept = len(list((path / "label-cache").iterdir()))
        assert kept == 2
        assert not read_run(path)["finished"]
        server.script = [well]
        # As many as are allowed for may change from one attempt to the next.
        with pytest.raises(
            SystemExit, match=r"^error: chat_max_requests: got 1 requests sent, allow"
        ):
            run(*arguments, "--chat_max_requests=1")
        assert len(list((path / "label-cache").iterdir())) == 3
        assert "--chat_max_requests=1\n" in (path / "config.flags").read_text()
        before = len(server.requests)
        run(*arguments)
        assert len(server.requests) - before == len(list((path / "label-cache").iterdir())) - 3
    assert read_run(path)["finished"]
    labels = [r for r in read_rows(path / "analysis/labels.jsonl") if r["labeller"] == "some/model"]
    assert len(labels) == 12


# -------------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--expansion=0"], "expansion: got 0.0, allowed"),
        (["--expansion=0.3"], "expansion: got 0.3.*whole number"),
        (["--expansion=x"], "expansion: got .'x'., allowed: numbers"),
        (["--resample=on,often"], "resample: got 'on,often', allowed: each of off, on, anthr"),
        (["--resample=on,on"], "resample: got 'on,on', allowed"),
        (["--resample=off"], "resample_every: got 8, allowed: 0, because no cell"),
        (
            ["--resample_every=0"],
            "resample_window: got 3|resample: got 'on', allowed: only with res",
        ),
        (["--ghost_after=0"], "resample: got 'ghost', allowed: only with ghost_after above 0"),
        (["--resample_bias=nan"], "resample_bias: got nan, allowed: a finite number"),
        (["--dead_threshold=-1"], "dead_threshold: got -1.0, allowed"),
        (["--lr=0.1,0.2"], "lr: got .*, allowed: one number"),
        (
            ["--hook=blocks.0.mlp.hook_post"],
            "hook: got 'blocks.0.mlp.hook_post', allowed: one of the",
        ),
        (
            ["--hook=blocks.7.hook_resid_pre"],
            "hook: got 'blocks.7.hook_resid_pre', allowed: blocks.0",
        ),
        (["--held_out=0.001"], "held_out: got 0.001, which holds out 2 of rows=1500; allowed: 64"),
        (["--rows=0"], "rows: got 0, allowed: 1 or more"),
        (["--n_labelled=0"], "n_labelled: got 0, allowed: a whole number from 1"),
        (["--lm_revision=main"], "lm_revision: got 'main', allowed: only with --lm=NAME"),
        (["--lm_dtype=bfloat16"], "lm_dtype: got 'bfloat16', allowed: only with --lm=NAME"),
        (["--lm=gpt3"], "lm: got 'gpt3', allowed: an existing folder, gpt2, gpt2-medium"),
        (
            ["--lm=gpt2", "--tokenizer=t"],
            "tokenizer: got 't', allowed: none, --lm=gpt2 has its own",
        ),
        (["--context=1", "--bos"], "context: got 1, allowed: a whole number, 2 or more"),
        (["--context=1", "--drop_first"], "context: got 1, allowed: a whole number, 2 or more"),
        (
            ["--chat_url=http://localhost/v1"],
            "chat_url: got 'http.*', allowed: only with --chat_model",
        ),
        (["--chat_model=m"], "chat_url: got None, allowed: the base URL"),
        (
            ["--chat_model=m", "--chat_url=https://example.org/v1"],
            "chat_key_variable: got None, allowed: the environment variable .* of example.org",
        ),
        (
            ["--chat_model=offline", "--chat_url=http://localhost/v1", "--chat_key_variable="],
            "chat_model: got 'offline', allowed: another name",
        ),
        (
            [
                "--chat_model=m",
                "--chat_url=http://localhost/v1",
                "--chat_key_variable=",
                "--chat_cache=/dev/null",
            ],
            "chat_cache: got '/dev/null' .*allowed: a folder to write in",
        ),
        (
            ["--chat_model=m", "--chat_url=https://localhost/v1", "--chat_key_variable=NO_KEY"],
            "chat_key_variable: got 'NO_KEY', which is not set",
        ),
        (
            ["--chat_model=m", "--chat_url=http://example.org/v1", "--chat_key_variable=TEST_KEY"],
            "chat_url: got 'http://example.org/v1', where the key would be readable",
        ),
        (
            ["--chat_model= ", "--chat_url=http://localhost/v1", "--chat_key_variable="],
            "chat_model: got ' ', allowed: a name",
        ),
        (
            [
                "--chat_model=m",
                "--chat_url=http://localhost/v1",
                "--chat_key_variable=",
                "--chat_max_requests=-1",
            ],
            "chat_max_requests: got -1, allowed",
        ),
    ],
)
def test_bad_flags_are_refused_before_work(tmp_path, texts, monkeypatch, flags, message):
    monkeypatch.setenv("TEST_KEY", KEY)
    with pytest.raises(SystemExit, match=f"^error: ({message})"):
        run(*TINY, f"--folder={texts}", f"--workdir={tmp_path / 'x'}", *flags)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments" / "gpt2").glob("*.flags")), ids=lambda p: p.stem
)
def test_flagfiles_are_valid_and_reach_the_settings(path):
    with commands.parsing(gpt2) as parse:
        parse(f"--flagfile={path}")
        sweep, settings, analysis = gpt2.config()
    assert sweep.ratio == (4, 8, 16, 32)
    assert {"off", "on"} <= {*sweep.resample}
    assert settings.sae.init == "tied"
    assert settings.sae.l1_reduction == "sum"
    assert settings.resample.threshold == settings.dead_threshold == analysis.dead_threshold == 0.07
