"""The command of the grid study: what it leaves, how it replays, and how it refuses bad flags."""

import csv

import pytest
from absl import flags
from helpers import commands
from helpers.commands import ROOT

from saejax import Resample, Synthetic
from saejax.experiments.common import command
from saejax.experiments.grid import __main__ as grid
from saejax.training.sweep import PUBLISHED_L1, PUBLISHED_RATIOS

FLAGFILES = sorted((ROOT / "experiments" / "grid").glob("*.flags"))
TINY = [
    "--datasets=uncorrelated",
    "--ratio=0.5,1",
    "--l1=0.01,0.1",
    "--seeds=0",
    "--d_in=6",
    "--n_features=8",
    "--avg_active=2",
    "--steps=4",
    "--eval_every=2",
    "--batch_size=16",
    "--lr=0.01",
]


def start(cache, *arguments):
    kept = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return commands.start("grid", *arguments, environment=kept, timeout=120)


@pytest.fixture
def parse():
    with commands.parsing(grid) as parse_afresh:
        yield parse_afresh


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    path = tmp_path_factory.mktemp("grid") / "first"
    return path, start(cache, *TINY, f"--workdir={path}")


# ---------------------------------------------------------------------------------------- a run


def test_the_command_leaves_results_and_report(finished):
    path, out = finished
    assert out.returncode == 0, out.stderr
    assert {p.name for p in path.iterdir()} == {
        "run.json",
        "config.flags",
        "metrics.jsonl",
        "results.csv",
        "results.npz",
        "dictionaries",
        "figures",
        "tables",
        "report.html",
    }
    assert len(list((path / "dictionaries").iterdir())) == 4
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 2 * 4
    with (path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["dataset"], r["ratio"], r["l1"]) for r in rows] == [
        ("uncorrelated", r, k) for r in ("0.5", "1") for k in ("0.01", "0.1")
    ]
    assert "uncorrelated: best MMCS " in out.stdout
    assert f"report: {path / 'report.html'}" in out.stdout
    assert "Traceback" not in out.stderr


def test_its_flags_replay_it(finished, cache):
    path, _ = finished
    other = path.parent / "second"
    out = start(cache, f"--flagfile={path / 'config.flags'}", f"--workdir={other}")
    assert out.returncode == 0, out.stderr
    assert (other / "results.csv").read_bytes() == (path / "results.csv").read_bytes()
    assert (other / "metrics.jsonl").read_bytes() == (path / "metrics.jsonl").read_bytes()
    kept = [
        [line for line in (p / "config.flags").read_text().splitlines() if "workdir" not in line]
        for p in (path, other)
    ]
    assert kept[0] == kept[1]
    assert set(TINY) - {"--avg_active=2"} <= set(kept[0])


def test_a_bad_value_ends_the_command_with_one_line(tmp_path, cache):
    out = start(cache, *TINY, "--steps=5", f"--workdir={tmp_path / 'run'}")
    assert out.returncode == 1
    assert out.stderr.strip() == "error: steps: got 5, allowed: a multiple of eval_every=2"
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------------------------------- bad flags


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--datasets=", "datasets: got '', allowed: each of uncorrelated, correlated, copula"),
        ("--datasets=gaussian", "datasets: got 'gaussian', allowed: each of uncorrelated"),
        ("--datasets=copula,copula", "datasets: got 'copula,copula', allowed: .* at most once"),
        ("--ratio=", "ratio: got no value, allowed: at least one"),
        ("--ratio=0", r"ratio: got 0\.0, allowed: a number above 0"),
        ("--ratio=one", r"ratio: got \['one'\], allowed: numbers separated by commas"),
        ("--ratio=0.3", r"ratio: got 0\.3, .*n_features=8; allowed: .*whole number"),
        ("--l1=-1", r"l1: got -1\.0, allowed: a number, 0 or more"),
        ("--l1=nan", "l1: got nan, allowed: a number, 0 or more"),
        ("--l1=0.1;0.2", r"l1: got \['0.1;0.2'\], allowed: numbers separated by commas"),
        ("--l1=0.1,0.1", r"l1: got \(0\.1, 0\.1\), allowed: each value once"),
        ("--seeds=0.5", "seeds: got '0.5', allowed: whole numbers or ranges"),
        ("--seeds=-1", "seeds: got '-1', allowed: whole numbers or ranges"),
        ("--lr=0", r"lr: got 0\.0, allowed: a number above 0"),
        ("--d_in=0", "d_in: got 0, allowed: 1 or more"),
        ("--n_features=-8", "n_features: got -8, allowed: 1 or more"),
        ("--avg_active=0", r"avg_active: got 0\.0, allowed: above 0"),
        ("--avg_active=100", r"avg_active: got 100\.0, allowed: up to 7\.7.*feature 0"),
        ("--feature_decay=2", r"feature_decay: got 2\.0, allowed: above 0, up to 1"),
        ("--copula_strength=1", r"copula_strength: got 1\.0, allowed: from 0 to below 1"),
        ("--steps=0", "steps: got 0, allowed: a whole number, 1 or more"),
        ("--batch_size=-4", "batch_size: got -4, allowed: a whole number, 1 or more"),
        ("--eval_every=3", "steps: got 4, allowed: a multiple of eval_every=3"),
        ("--eval_every=0", "eval_every: got 0, allowed: a whole number, 1 or more"),
        ("--resample_every=-1", "resample_every: got -1, allowed: 0"),
        ("--resample=on", "resample: got 'on', allowed: only with resample_every above 0"),
        (
            "--resample=off,anthropic",
            "resample: got 'anthropic', allowed: only with resample_every",
        ),
        ("--resample=ghost", "resample: got 'ghost', allowed: only with ghost_after above 0"),
        (
            "--resample=maybe",
            "resample: got 'maybe', allowed: each of off, on, anthropic, ghost, auxk",
        ),
        ("--resample=on,on", "resample: got 'on,on', allowed: .* at most once"),
        ("--resample=", "resample: got '', allowed: .* at least one"),
        ("--resample_window=0", "resample_window: got 0, allowed: 1 or more"),
        ("--ghost_after=-1", r"ghost_after: got -1, allowed: 0 \(never\) or more"),
        ("--ghost_after=3", "ghost_after: got 3, allowed: 0, because no cell .* resample 'ghost'"),
        ("--aux_after=3", "aux_after: got 3, allowed: 0, because no cell .* resample 'auxk'"),
        ("--resample=auxk", "resample: got auxk, allowed for relu: off, on, anthropic, ghost"),
        (
            "--architecture=relus",
            "architecture: got 'relus', allowed: each of relu, topk, batchtopk",
        ),
        ("--architecture=relu,topk", "k: got nothing, allowed with topk: whole numbers, 1 or more"),
        ("--k=2", r"k: got \[2\], allowed: nothing, because no architecture reads it"),
        ("--l0_coefficient=1", "l0_coefficient: got .*, allowed: with jumprelu in --architecture"),
        ("--cell_batch=0", "cell_batch: got 0, allowed: a whole number, 1 or more"),
    ],
)
def test_a_bad_value_names_flag_value_and_allowed(parse, tmp_path, flag, message):
    path = tmp_path / "run"
    arguments = parse(*TINY, f"--workdir={path}", flag)
    with pytest.raises(SystemExit, match=f"^error: {message}") as error:
        grid.main(arguments)
    assert isinstance(error.value.code, str)
    assert not path.exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--matmul_precision=fp8", "--matmul_precision=fp8: .*highest.*tf32.*bf16"),
        ("--steps=many", "--steps=many: .*int"),
        ("--d_in=1.5", r"--d_in=1\.5: .*int"),
        ("--avg_active=few", "--avg_active=few: .*float"),
        ("--step=5", "Unknown command line flag 'step'"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_flag(parse, tmp_path, flag, message):
    with pytest.raises(flags.Error, match=message):
        parse(*TINY, f"--workdir={tmp_path / 'run'}", flag)


def test_the_workdir_is_required(parse):
    with pytest.raises(flags.Error, match="workdir"):
        parse(*TINY)


def test_an_argument_that_is_no_flag_is_refused(parse, tmp_path):
    arguments = parse(*TINY, f"--workdir={tmp_path / 'run'}", "extra")
    with pytest.raises(SystemExit, match="error: got the argument 'extra', allowed: flags only"):
        grid.main(arguments)
    assert not (tmp_path / "run").exists()


def test_a_used_workdir_is_refused(parse, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit, match=r"error: workdir: got .*new or empty"):
        grid.main(parse(*TINY, f"--workdir={tmp_path}"))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


# ---------------------------------------------------------------------------------------- config


def test_flags_become_sweep_data_and_settings(parse):
    parse(
        *TINY,
        "--workdir=x",
        "--seeds=3,1",
        "--resample_every=20",
        "--resample=on,off",
        "--lr=1,2",
        "--resample_bias=-2",
        "--resample_window=7",
    )
    sweep, data, settings = grid.config()
    assert (sweep.ratio, sweep.l1, sweep.seeds) == ((0.5, 1.0), (0.01, 0.1), (3, 1))
    assert (sweep.lr, sweep.resample) == ((1.0, 2.0), ("on", "off"))
    assert data == {"uncorrelated": Synthetic(d_in=6, n_features=8, avg_active=2.0)}
    assert (settings.steps, settings.eval_every, settings.batch_size) == (4, 2, 16)
    assert settings.resample == Resample(every=20, window=7, bias=-2.0)


def test_defaults_are_the_published_grid(parse):
    parse("--workdir=x")
    sweep, data, settings = grid.config()
    assert (sweep.l1, sweep.ratio) == (PUBLISHED_L1, PUBLISHED_RATIOS)
    assert (sweep.seeds, sweep.lr, sweep.resample) == ((0,), (1e-3,), ("off",))
    published = {"d_in": 256, "n_features": 512, "avg_active": 5.0, "feature_decay": 0.99}
    assert data == {k: Synthetic(k, **published) for k in ("uncorrelated", "correlated")}
    assert (settings.steps, settings.batch_size) == (30_000, 4096)


def test_resampling_is_on_where_it_is_due(parse):
    parse("--workdir=x", "--resample_every=100")
    assert grid.config()[0].resample == ("on",)


def test_every_way_to_revive_has_its_flags(parse):
    ways = "--resample=ghost,off,anthropic,on"
    parse("--workdir=x", ways, "--resample_every=100", "--resample_window=7", "--ghost_after=30")
    sweep, _, settings = grid.config()
    assert sweep.resample == ("ghost", "off", "anthropic", "on")
    assert settings.resample == Resample(every=100, window=7, ghost_after=30)


def test_architectures_have_their_flags(parse):
    parse(
        "--workdir=x",
        "--architecture=topk,relu,jumprelu",
        "--l1=0.5,0.25",
        "--k=2,3",
        "--l0_coefficient=0.01",
        "--resample=off,auxk",
        "--aux_after=30",
    )
    sweep, _, settings = grid.config()
    assert settings.resample == Resample(aux_after=30)
    topk, relu, jumprelu = sweep.parts
    assert [part.architecture.name for part in sweep.parts] == ["topk", "relu", "jumprelu"]
    assert (topk.k, topk.resample) == ((2, 3), ("off", "auxk"))
    assert (relu.l1, relu.k, relu.resample) == ((0.5, 0.25), (0,), ("off",))
    assert jumprelu.l1 == (0.01,)


def test_the_flagfile_says_the_same_again(parse, tmp_path):
    ways = [
        "--resample=off,ghost,on",
        "--resample_every=12",
        "--resample_window=5",
        "--ghost_after=9",
    ]
    parse(*TINY, "--workdir=x y", *ways, "--seeds=4,5", "--cell_batch=3")
    before, text = grid.config(), command.flagfile(grid.FLAGS)
    (tmp_path / "config.flags").write_text(text)
    parse(f"--flagfile={tmp_path / 'config.flags'}")
    assert grid.config() == before
    assert command.flagfile(grid.FLAGS) == text


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda p: p.stem)
def test_shipped_flagfiles_describe_a_run(parse, path):
    parse(f"--flagfile={path}")
    sweep, data, settings = grid.config()
    assert settings.steps % settings.eval_every == 0
    for spec in data.values():
        assert len(sweep.widths(spec.n_features)) == len(sweep.ratio)
    assert grid.FLAGS.workdir == f"runs/grid-{path.stem}"
    header = path.read_text()
    assert f"--flagfile=experiments/grid/{path.name}" in header
    assert all(f"# {word}:" in header for word in ("Question", "Command", "Time", "Expect"))
