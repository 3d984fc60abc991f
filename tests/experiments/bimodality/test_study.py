"""The bimodality command at a tiny size: text, tokens, model, store, sweep, analysis, report."""

import csv
import re
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import commands
from helpers.commands import ROOT
from helpers.resumable import after_chunk

from saejax import load
from saejax.core.files import read_rows
from saejax.data.store.manifest import read_manifest
from saejax.data.store.reader import Store
from saejax.experiments.bimodality import __main__ as bimodality
from saejax.experiments.language import stages as language_stages
from saejax.lm.corpus import is_validation, load_corpus
from saejax.lm.harvest import harvest
from saejax.lm.model import forward
from saejax.lm.training import load_lm
from saejax.results.workdir import read_run
from saejax.training.resuming import Keeper

HOOK = "blocks.0.mlp.hook_post"
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
    "--d_sae=6,12,24",
    "--l1=0.001,0.01",
    "--seeds=0-1",
    "--lr=0.01",
    "--steps=20",
    "--eval_every=10",
    "--batch_size=32",
    "--eval_batches=2",
    "--held_out=0.05",
    "--eval_windows=6",
    "--n_ablated=4",
    "--ablation_windows=2",
    "--n_boot=20",
]
STAGES = ("text", "language model", "activations", "dictionaries")
WORDS = [f"{a}{b}" for a in ("cat", "dog", "sun", "hill", "mat") for b in ("", "s", "ly")]


@pytest.fixture
def parse():
    with commands.parsing(bimodality) as parse_afresh:
        yield parse_afresh


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    for i in range(40):
        (folder / f"{i:02d}.txt").write_text(" ".join(rng.choice(WORDS, 60)) + ".\n")
    # Validation documents with a word of their own, which the vocabulary must not know.
    strange = (f"{'zzqx ' * 60}{i}" for i in range(100))
    for i, text in enumerate([t for t in strange if is_validation(t, 0.3)][:5]):
        (folder / f"z{i}.txt").write_text(text)
    return folder


def run(*arguments):
    """The command in this process; its printed lines are left to capsys."""
    with commands.parsing(bimodality) as parse:
        parse(*arguments)
        bimodality.main(["bimodality"])


@pytest.fixture(scope="module")
def finished(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("bimodality") / "run"
    run(*TINY, f"--folder={texts}", f"--workdir={path}")
    return path


def reused(finished, **instead):
    """Flags that reuse the stages of the finished run but for some."""
    folders = {name: finished / name for name in ("lm", "store", "dictionaries")} | instead
    flags = zip(("workdir_lm", "store", "dictionaries"), folders.values(), strict=True)
    return [f"--{flag}={folder}" for flag, folder in flags]


@pytest.fixture(scope="module")
def arrays(finished):
    with np.load(finished / "analysis.npz", allow_pickle=False) as file:
        return dict(file)


# -------------------------------------------------------------------------------------- a whole run


def test_a_run_leaves_every_part(finished):
    names = {p.name for p in finished.iterdir()}
    assert names >= {
        "report.html",
        "results.csv",
        "claims.jsonl",
        "analysis.npz",
        "config.flags",
        "run.json",
        "lm",
        "store",
        "dictionaries",
        "figures",
    }
    info = read_run(finished)
    assert info["finished"]
    assert [row["stage"] for row in info["stages"]] == [*STAGES, "analysis"]
    assert not any(row["reused"] for row in info["stages"])
    assert info["coords"] == {"l1": [0.001, 0.01], "d_sae": [6, 12, 24], "seed": [0, 1]}
    with (finished / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12


def test_the_store_holds_what_the_model_computes_from_the_tokens(finished):
    """From token ids through the forward pass to rows on disk, by one plain call."""
    corpus, lm = load_corpus(finished / "lm" / "text"), load_lm(finished / "lm" / "model")
    store = Store.open(finished / "store", verify=True)
    assert len(store) == 1500
    rows = np.arange(1500)
    np.testing.assert_array_equal(store.token_ids(rows), corpus.train[:1500])
    windows = jnp.asarray(corpus.train[: 93 * 16].reshape(93, 16))
    _, found = jax.jit(forward, static_argnames="read")(lm.model, windows, (HOOK,))
    expected = np.float16(np.asarray(found[HOOK]).reshape(-1, 32))
    np.testing.assert_allclose(store.rows(rows[: 93 * 16]), expected, rtol=2e-3, atol=1e-6)


def test_the_dictionaries_are_those_of_the_store_and_the_analysis_is_of_them(finished, arrays):
    result = load(finished / "dictionaries")
    store = Store.open(finished / "store")
    assert result.run["data"]["activations"]["checksum"] == store.checksum
    assert result.run["settings"]["sae"]["l1_reduction"] == "sum"
    small, large = (
        np.float64(result.dictionary(l1=0.01, ratio=d / 32, seed=1).W_dec) for d in (6, 24)
    )
    np.testing.assert_allclose(arrays["mcs/0.01/6/24"][1], (small @ large.T).max(1), atol=1e-5)


def test_frequencies_and_losses_are_of_validation_text(finished, arrays):
    corpus, lm = load_corpus(finished / "lm" / "text"), load_lm(finished / "lm" / "model")
    at = np.linspace(0, corpus.validation.size - 17, 6).astype(int)
    windows = np.stack([corpus.validation[i : i + 17] for i in at]).astype(int)
    params = load(finished / "dictionaries").dictionary(l1=0.001, ratio=12 / 32, seed=0)
    read = jax.jit(forward, static_argnames="read")
    x = np.float64(read(lm.model, jnp.asarray(windows[:, :-1]), (HOOK,))[1][HOOK])
    h = np.maximum((x - params.b_dec) @ params.W_enc + params.b_enc, 0)
    np.testing.assert_allclose(arrays["frequency/0.001/12"][0], (h > 0).mean((0, 1)), atol=0.011)
    x_hat = jnp.asarray(h @ params.W_dec + params.b_dec, jnp.float32)
    for name, x_new in (("0.001/12", x_hat), ("zero", jnp.zeros(32))):
        logits, _ = forward(lm.model, jnp.asarray(windows[:, :-1]), replace={HOOK: x_new})
        p = jax.nn.log_softmax(logits)
        expected = -np.take_along_axis(np.asarray(p), windows[:, 1:, None], -1)[..., 0].mean(1)
        got = arrays[f"losses/{name}"]
        np.testing.assert_allclose(got[0] if got.ndim == 2 else got, expected, rtol=1e-4)


def test_tokens_are_learned_from_training_documents_alone(finished):
    corpus = load_corpus(finished / "lm" / "text")
    assert "zz" not in corpus.tokenizer().get_vocab()
    assert "zzqx" in corpus.tokenizer().decode(corpus.validation.tolist())


def test_as_many_latents_are_ablated_as_asked_for(arrays):
    for d in (6, 12):
        effect = arrays[f"effect/0.01/{d}"]
        assert (np.isfinite(effect).sum(1) == 4).all()
    assert np.isnan(arrays["effect/0.01/24"]).all()


def test_every_row_of_every_table_is_there(finished):
    counts = {p.stem: len(read_rows(p)) for p in (finished / "analysis").glob("*.jsonl")}
    # 2 l1, 2 seeds, 3 sizes: 3 pairs, 2 sizes below the largest, 1 pair of larger ones.
    assert counts["cells"] == 12
    assert counts["split"] == 12
    assert counts["correlation"] == 4
    assert counts["explanation"] == 8
    assert counts["modes"] >= 8
    assert len(read_rows(finished / "claims.jsonl")) > 10


def test_the_page_shows_it(finished):
    page = (finished / "report.html").read_text()
    assert page.count("<img") >= 10
    for text in ("unigram", "dead", HOOK):
        assert text in page


# ------------------------------------------------------------------------------------------ reusing


def test_a_second_run_reuses_every_stage_and_finds_the_same(
    finished, texts, tmp_path, capsys, arrays
):
    path = tmp_path / "again"
    run(*TINY, f"--folder={texts}", f"--workdir={path}", *reused(finished))
    printed = capsys.readouterr().out
    for name in STAGES:
        assert f"{name}: skipped, reused {finished}" in printed
    assert sorted(p.name for p in path.iterdir() if p.is_dir()) == ["analysis", "figures", "tables"]
    with np.load(path / "analysis.npz") as file:
        assert sorted(file.files) == sorted(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(file[name], array)
    assert [row["reused"] for row in read_run(path)["stages"]] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "--vocab_size=270",
            r"workdir_lm: got .*text.*: tokenizer.vocab_size: got 270, allowed: 280",
        ),
        ("--validation_share=0.2", "validation_share: got 0.2, allowed: 0.3"),
        ("--lm_lr=0.02", r"settings.lr: got 0.02, allowed: 0.01 \(what '.*model' was started with"),
        ("--rows=1400", r"store: got '.*store', .*: model.rows: got 1400, allowed: 1500"),
        ("--store_dtype=float32", "dtype: got 'float32', allowed: 'float16'"),
        ("--l1=0.001,0.02", r"dictionaries: got .*: coords.l1: got .0.001, 0.02., allowed: .0.001"),
        ("--steps=30", "settings.steps: got 30, allowed: 20"),
        ("--held_out=0.06", "data.activations.held_out: got 0.06, allowed: 0.05"),
    ],
)
def test_a_stage_of_other_settings_is_refused(finished, texts, tmp_path, flag, message):
    arguments = [*TINY, f"--folder={texts}", f"--workdir={tmp_path / 'x'}", *reused(finished), flag]
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        run(*arguments)
    assert not (tmp_path / "x" / "analysis.npz").exists()


def test_an_altered_store_is_named(finished, texts, tmp_path):
    store = shutil.copytree(finished / "store", tmp_path / "store")
    shard = store / "shard-00001" / "activations.npy"
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data)
    arguments = [*TINY, f"--folder={texts}", f"--workdir={tmp_path / 'x'}"]
    with pytest.raises(
        SystemExit, match=r"error: .*shard-00001/activations.npy: got contents of SHA"
    ):
        run(*arguments, *reused(finished, store=store))


# -------------------------------------------------------------------------------------- interrupted


def interrupted(monkeypatch, module, name):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, name, stop)


def test_an_interrupted_run_goes_on(finished, texts, tmp_path, monkeypatch, capsys):
    path = tmp_path / "run"
    arguments = [*TINY, f"--folder={texts}", f"--workdir={path}"]

    def stops_after_a_batch(*given, **named):
        yield next(harvest(*given, **named))
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
        SystemExit, match=f"error: workdir: got '{path}', where .*: cutoff: got '0.4'"
    ):
        run(*arguments, "--cutoff=0.4")
    with monkeypatch.context() as m:
        interrupted(m, bimodality, "measure")
        with pytest.raises(SystemExit, match="interrupted"):
            run(*arguments, f"--dictionaries={finished / 'dictionaries'}")
    lines = capsys.readouterr().out.splitlines()
    told = [line.partition(",")[0].partition(" in ")[0] for line in lines]
    assert told == [
        "text: done",
        "language model: done",
        "text: skipped",
        "language model: skipped",
        "activations: done",
        "dictionaries: skipped",
    ]
    checksums = {Store.open(p / "store").checksum for p in (path, finished)}
    assert len(checksums) == 1


def test_a_finished_run_is_not_overwritten(finished, texts):
    before = (finished / "run.json").read_bytes()
    with pytest.raises(SystemExit, match=r"error: workdir: .* holds a run already"):
        run(*TINY, f"--folder={texts}", f"--workdir={finished}")
    assert (finished / "run.json").read_bytes() == before


def test_an_interrupted_training_goes_on_where_it_was_saved(finished, texts, tmp_path, monkeypatch):
    folder, seen = tmp_path / "dictionaries", []
    arguments = [*TINY, f"--folder={texts}", *reused(finished, dictionaries=folder)]

    def act(step):
        seen.append(step)
        if len(seen) == 1:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Keeper, "chunk_done", after_chunk(act))
    interrupted(monkeypatch, bimodality, "measure")
    with pytest.raises(SystemExit) as ended:
        run(*arguments, f"--workdir={tmp_path / 'x'}")
    assert ended.value.code == 143
    with pytest.raises(SystemExit, match="interrupted"):
        run(*arguments, f"--workdir={tmp_path / 'x'}")
    assert seen == sorted({*seen})
    whole = sorted((finished / "dictionaries" / "dictionaries").iterdir())
    assert whole
    for path in whole:
        with np.load(path) as ours, np.load(folder / "dictionaries" / path.name) as theirs:
            assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours.files)


# -------------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--d_sae=12"], "d_sae: got .'12'., allowed: two or more"),
        (["--d_sae=24,12"], "d_sae: got .* rising"),
        (["--l1_shown=0.5"], "l1_shown: got 0.5, allowed: one of l1"),
        (
            ["--hook=blocks.7.mlp.hook_post"],
            "hook: got 'blocks.7.mlp.hook_post', allowed: blocks.0",
        ),
        (["--held_out=0.001"], "held_out: got 0.001, which holds out 2 of rows=1500; allowed: 64"),
        (["--held_out=1"], "held_out: got 1.0, allowed: a share from 0 to below 1"),
        (["--rows=0"], "rows: got 0, allowed: 1 or more"),
        (["--text=stdlib"], "folder: got '.*', allowed: only with --text=folder"),
        (["--text=hub", "--folder="], "folder: got '', allowed: only with --text=folder"),
        (["--n_boot=0"], "n_boot: got 0, allowed"),
        (["--lm_steps=7"], "lm_eval_every: got 10, allowed: a divisor of steps=7"),
    ],
)
def test_bad_flags_are_refused_before_work(tmp_path, texts, flags, message):
    with pytest.raises(SystemExit, match=f"^error: {message}"):
        run(*TINY, f"--folder={texts}", f"--workdir={tmp_path / 'x'}", *flags)
    assert not (tmp_path / "x").exists()


def test_more_rows_than_the_text_has_are_refused(finished, texts, tmp_path):
    arguments = [*TINY, f"--folder={texts}", f"--workdir={tmp_path / 'x'}", "--rows=999999"]
    with pytest.raises(SystemExit, match=r"error: rows: got 999999, allowed: up to \d+, the whole"):
        run(*arguments, *reused(finished, store=tmp_path / "store"))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["quick", "paper"])
def test_flagfiles_are_valid_and_say_what_to_expect(parse, name):
    path = ROOT / "experiments" / "bimodality" / f"{name}.flags"
    parse(f"--flagfile={path}")
    sweep, settings, analysis = bimodality.config()
    assert analysis.cutoff == 0.5
    assert bimodality.FLAGS.l1_shown == 0.001
    assert settings.sae.init == "tied"
    sizes = [round(ratio * 128) for ratio in sweep.ratio]
    if name == "paper":
        assert sizes == [256, 512, 1024, 2048, 4096, 8192]
        assert language_stages.source(bimodality.FLAGS).describe()["type"] == "hugging face"
    head = path.read_text()
    for word in ("Question", "Command", "Time", "Expect"):
        assert re.search(rf"^# {word}: ", head, re.MULTILINE)
