"""The synthbench study: its flags, its command, its page, and its claims by hand."""

import csv

import numpy as np
import pytest
from helpers import commands
from helpers.commands import ROOT

from saejax.data.synthetic.recipe import firing_rates
from saejax.data.synthetic.synthsaebench import synthsaebench_16k
from saejax.experiments.common import command
from saejax.experiments.synthbench import __main__ as synthbench
from saejax.experiments.synthbench import claims
from saejax.experiments.synthbench import published as synthbench_published
from saejax.results.axes import ABSENT
from saejax.results.result import Result
from saejax.sae.registry import Matryoshka
from saejax.sae.revival import Resample

FLAGFILES = sorted((ROOT / "experiments" / "synthbench").glob("*.flags"))
TINY = [
    "--scale=64",
    "--architecture=relu,batchtopk",
    "--l1=0.02,0.1",
    "--k=1,4",
    "--seeds=0,1",
    "--steps=8",
    "--eval_every=4",
    "--batch_size=32",
    "--eval_batches=2",
    "--lr=0.01",
    "--resample_every=3",
    "--aux_after=2",
]


@pytest.fixture
def parse():
    with commands.parsing(synthbench) as parse_afresh:
        yield parse_afresh


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthbench") / "run"
    return path, commands.start("synthbench", *TINY, f"--workdir={path}")


# ------------------------------------------------------------------------------------------ a run


def test_the_command_leaves_results_and_report(finished):
    path, out = finished
    assert out.returncode == 0, out.stderr
    with (path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [(r["architecture"], r["resample"], float(r["l1"]) or int(r["k"])) for r in rows]
    ways = {"relu": ("anthropic", (0.02, 0.1)), "batchtopk": ("auxk", (1, 4))}
    expected = [(name, way, v) for name, (way, values) in ways.items() for v in values]
    assert sorted(map(str, cells)) == sorted(map(str, expected * 2))
    assert all(r["d_sae"] == "64" and 0 <= float(r["f1"]) <= 1 for r in rows)
    assert "Traceback" not in out.stderr
    best = max((r for r in rows if r["architecture"] == "relu"), key=lambda r: float(r["f1"]))
    assert f"relu, L1 {float(best['l1']):.2g}, ratio 0.25: best F1 " in out.stdout
    assert f"report: {path / 'report.html'}" in out.stdout


def test_the_page_shows_every_picture_and_the_published_numbers(finished):
    path, _ = finished
    page = (path / "report.html").read_text(encoding="utf-8")
    names = {"detection", "recovery", "training_f1"}
    assert {p.stem for p in (path / "figures").iterdir()} == names
    assert page.count("data:image/png;base64,") == len(names)
    assert "reduced 64-fold" in page
    assert "256 features in 96 dimensions, of which 2.9 are active in a sample" in page
    assert "would have L0 2.2" in page
    with (path / "tables" / "published.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["L0"], r["architecture"]) for r in rows] == [
        (l0, name)
        for l0 in ("25", "20")
        for name in ("relu", "batchtopk", "jumprelu", "matryoshka", "matching pursuit")
    ]
    first = rows[1]
    assert (first["F1"], first["MCC"]) == ("0.732 ± 0.001", "0.757 ± <0.001")
    assert (first["uniqueness"], first["explained"]) == ("0.984 ± 0.002", "0.792 ± <0.001")
    assert rows[4]["F1 here"] == ""
    assert "SAEs with ReLU and L1 recover features worst" in page


# ------------------------------------------------------------------------------------------ flags


def test_flags_become_sweep_data_and_settings(parse):
    parse(
        "--workdir=x",
        "--scale=16",
        "--l1=0.1,0.2",
        "--gated_l1=0.3",
        "--l0_coefficient=0.4",
        "--k=3,5",
        "--resample_every=7",
        "--resample_window=4",
        "--aux_after=9",
        "--bandwidth=0.5",
        "--initial_threshold=0.25",
        "--steps=10",
        "--eval_every=5",
    )
    sweep, data, settings = synthbench.config()
    parts = {part.architecture.name: part for part in sweep.parts}
    assert {name: part.l1 for name, part in parts.items() if part.k == (0,)} == {
        "relu": (0.1, 0.2),
        "jumprelu": (0.4,),
        "gated": (0.3,),
    }
    assert all(parts[name].k == (3, 5) for name in ("topk", "batchtopk", "matryoshka"))
    assert {name: part.resample for name, part in parts.items()} == {
        "relu": ("anthropic",),
        "gated": ("anthropic",),
        "jumprelu": ("off",),
        "topk": ("auxk",),
        "batchtopk": ("auxk",),
        "matryoshka": ("auxk",),
    }
    assert settings.resample == Resample(every=7, window=4, aux_after=9)
    assert data == {"synthsaebench": synthsaebench_16k(16)}
    assert sweep.widths(1024) == (256,)
    jumprelu = parts["jumprelu"].architecture.describe()
    assert (jumprelu["bandwidth"], jumprelu["initial_threshold"]) == (0.5, 0.25)
    assert settings.sae.use_b_dec


def test_defaults_are_the_published_run(parse):
    parse("--workdir=x")
    sweep, data, settings = synthbench.config()
    (spec,) = data.values()
    assert spec == synthsaebench_16k()
    assert sweep.widths(spec.n_features) == (4096,)
    assert (sweep.lr, len(sweep.seeds), settings.batch_size) == ((3e-4,), 5, 1024)
    assert settings.steps * settings.batch_size == pytest.approx(200e6, rel=0.002)
    matryoshka = sweep.parts[-1].architecture
    assert isinstance(matryoshka, Matryoshka)
    assert matryoshka.sizes(4096) == (128, 512, 2048, 4096)


def test_nothing_is_revived_where_the_flags_say_never(parse):
    parse("--workdir=x", "--aux_after=0")
    sweep, _, settings = synthbench.config()
    assert sweep.resample == ("off",)
    assert not settings.resample.watches


def test_a_period_is_not_asked_of_architectures_that_have_none(parse):
    parse("--workdir=x", "--architecture=jumprelu", "--resample_every=5", "--aux_after=5")
    sweep, _, settings = synthbench.config()
    assert (sweep.k, sweep.resample) == ((0,), ("off",))
    assert not settings.resample.watches


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scale=3"], "scale: got 3, allowed: 1, 4, 16 or 64"),
        (["--ratio=0.25,1"], r"ratio: got \['0.25', '1'\], allowed: one number"),
        (["--ratio=0.3"], r"ratio: got 0\.3, .*allowed: ratios for which ratio x n_features"),
        (["--lr=1,2"], r"lr: got \['1', '2'\], allowed: one number"),
        (["--gated_l1=0.1"], r"gated_l1: got \['0.1'\], allowed: with gated in --architecture"),
        (["--l0_coefficient=0.1"], ".*allowed: with jumprelu in --architecture"),
        (["--k=100"], "k: got 100, allowed: up to 64"),
        (["--architecture=relu"], "k: got .*no architecture reads it"),
        (["--architecture=jumprelu", "--k="], "k: got .*no architecture reads it"),
        (["--architecture=tanh"], "architecture: got 'tanh', allowed: each of relu, topk"),
        (["--bandwidth=0", "--architecture=jumprelu"], "bandwidth: got 0.0, allowed: above 0"),
        (
            ["--initial_threshold=-1", "--architecture=jumprelu"],
            "initial_threshold: got -1.0, allowed: above 0",
        ),
        (["--resample_window=9"], "resample_window: got 9, allowed: 1 to resample_every=3"),
        (["--resample_every=-1"], "resample_every: got -1, allowed: 0"),
        (["--aux_after=-1"], "aux_after: got -1, allowed: 0"),
        (["--eval_batches=0"], "eval_batches: got 0, allowed"),
        (["--steps=9"], "steps: got 9, allowed: a multiple of eval_every=4"),
    ],
)
def test_a_bad_value_names_flag_value_and_allowed(parse, tmp_path, arguments, message):
    path = tmp_path / "run"
    rest = parse(*TINY, f"--workdir={path}", *arguments)
    with pytest.raises(SystemExit, match=f"^error: {message}") as error:
        synthbench.main(rest)
    assert isinstance(error.value.code, str)
    assert not path.exists()


def test_the_flagfile_says_the_same_again(parse, tmp_path):
    parse(*TINY, "--workdir=x y")
    before, text = synthbench.config(), command.flagfile(synthbench.FLAGS)
    (tmp_path / "config.flags").write_text(text)
    parse(f"--flagfile={tmp_path / 'config.flags'}")
    assert synthbench.config() == before


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda p: p.stem)
def test_shipped_flagfiles_describe_a_run(parse, path):
    parse(f"--flagfile={path}")
    sweep, data, settings = synthbench.config()
    (spec,) = data.values()
    (d_sae,) = sweep.widths(spec.n_features)
    assert d_sae * synthbench.FLAGS.scale == 4096
    # The sparsities that are set outright lie on either side of what they are compared at.
    for theirs in synthbench_published.synthbench():
        here = theirs * claims.true_l0(spec, d_sae) / claims.true_l0(synthsaebench_16k(), 4096)
        assert min(k for k in sweep.k if k) < here < max(sweep.k)
    assert settings.steps % settings.eval_every == 0
    assert synthbench.FLAGS.workdir == f"runs/synthbench-{path.stem}"
    header = path.read_text()
    assert f"--flagfile=experiments/synthbench/{path.name}" in header
    assert all(f"# {word}:" in header for word in ("Question", "Command", "Time", "Expect"))


# ----------------------------------------------------------------------------------------- claims

NAMES = ("relu", "batchtopk", "jumprelu", "matryoshka")
METRICS = ("l0", "f1", "mcc", "uniqueness", "fvu", "precision", "recall")


def make(scale=16, seeds=(0, 1, 2)):
    """A result in which all SAEs are alike but for their L0, 3 and 12; tests plant effects."""
    coords = {
        "dataset": ("synthsaebench",),
        "seed": seeds,
        "ratio": (0.25,),
        "l1": (0.1, 0.2, 0.0),
        "lr": (1e-3,),
        "resample": ("off",),
        "architecture": NAMES,
        "k": (0, 3, 12),
    }
    shape = tuple(len(v) for v in coords.values())
    frozen = np.full(shape, ABSENT)
    final = {name: np.full(shape, np.nan) for name in METRICS}
    for i, name in enumerate(NAMES):
        for j in range(2):
            by_k = name in ("batchtopk", "matryoshka")
            at = (0, slice(None), 0, 2 if by_k else j, 0, 0, i, j + 1 if by_k else 0)
            frozen[at] = -1
            for metric in METRICS:
                final[metric][at] = 0.5
            # The larger L1 is the sparser one.
            final["l0"][at] = (3.0, 12.0)[j if by_k else 1 - j]
    return Result(
        coords=coords,
        d_sae=(4096 // scale,),
        run={"study": {"name": "synthbench", "scale": scale}},
        steps=np.array([10]),
        history={},
        final={**final, "frozen_at": frozen},
        best_index=None,
        best_cosine=None,
        features=None,
        load_params=lambda index: pytest.fail("no weights are needed"),
    )


def plant(result, name, metric, by_l0, seeds=(0.0, 0.001, -0.001)):
    """Gives an architecture's sparse and dense SAE values of a metric, with a spread over seeds."""
    l0 = result.final["l0"][..., NAMES.index(name), :]
    values = result.final[metric][..., NAMES.index(name), :]
    for wanted, value in zip((3.0, 12.0), by_l0, strict=True):
        for s, shift in enumerate(seeds[: len(result.coords["seed"])]):
            values[0, s][l0[0, s] == wanted] = value + shift


def answers(result):
    return {
        (row["claim"], row["measure"].split(",")[0], row["published"][-2:]): row["answer"]
        for row in claims.of_synthbench(result)
    }


def test_true_l0_is_that_of_the_most_frequent_features():
    assert claims.true_l0(synthsaebench_16k(), 4096) == pytest.approx(25.17, abs=0.01)
    assert claims.true_l0(synthsaebench_16k(64), 256) == pytest.approx(2.916, abs=1e-3)
    rates = np.sort(firing_rates(synthsaebench_16k(64)))
    assert claims.true_l0(synthsaebench_16k(64), 3) == pytest.approx(rates[-3:].sum())


def test_a_published_l0_is_itself_at_full_size_and_its_share_when_reduced():
    assert claims.matched_l0(make(scale=1), 20) == pytest.approx(20)
    assert claims.matched_l0(make(scale=16), 25) == pytest.approx(25 / 25.168 * 5.556, rel=1e-3)


def test_values_between_two_saes_are_linear_in_log_l0_and_none_are_extrapolated():
    result = make()
    plant(result, "relu", "f1", (0.2, 0.8), seeds=(0.0, 0.0, 0.1))
    np.testing.assert_allclose(claims.at_l0(result, "relu", "f1", 6.0), [0.5, 0.5, 0.6])
    np.testing.assert_allclose(claims.at_l0(result, "relu", "f1", 3.0), [0.2, 0.2, 0.3])
    assert np.isnan(claims.at_l0(result, "relu", "f1", 2.9)).all()
    assert np.isnan(claims.at_l0(result, "relu", "f1", 12.1)).all()
    np.testing.assert_allclose(claims.at_l0(result, "relu", "explained_variance", 6.0), 0.5)


def test_a_frozen_sae_is_no_end_of_the_line():
    result = make()
    plant(result, "batchtopk", "f1", (0.2, 0.8), seeds=(0.0, 0.0, 0.0))
    at = NAMES.index("batchtopk")
    result.final["frozen_at"][0, 1, 0, 2, 0, 0, at, 2] = 7
    got = claims.at_l0(result, "batchtopk", "f1", 6.0)
    assert np.isnan(got).tolist() == [False, True, False]


def test_the_published_order_makes_all_claims_hold():
    result = make()
    order = {"relu": 0.3, "batchtopk": 0.6, "jumprelu": 0.61, "matryoshka": 0.8}
    for name, level in order.items():
        for metric in ("f1", "mcc", "uniqueness"):
            plant(result, name, metric, (level, level))
        plant(result, name, "recall", (0.5, 0.9))
        plant(result, name, "precision", (0.9, 0.5))
    plant(result, "matryoshka", "fvu", (0.4, 0.3))
    plant(result, "batchtopk", "fvu", (0.3, 0.2))
    assert set(answers(result).values()) == {"holds"}


def test_the_opposite_order_makes_none_hold():
    result = make()
    order = {"relu": 0.9, "batchtopk": 0.6, "jumprelu": 0.61, "matryoshka": 0.5}
    for name, level in order.items():
        for metric in ("f1", "mcc", "uniqueness"):
            plant(result, name, metric, (level, level))
        plant(result, name, "recall", (0.9, 0.5))
        plant(result, name, "precision", (0.5, 0.9))
    plant(result, "matryoshka", "fvu", (0.2, 0.1))
    plant(result, "batchtopk", "fvu", (0.3, 0.2))
    assert set(answers(result).values()) == {"does not hold"}


def test_the_rival_is_the_best_and_the_worst_of_the_others():
    result = make()
    for name, level in {"relu": 0.5, "batchtopk": 0.4, "jumprelu": 0.7, "matryoshka": 0.6}.items():
        plant(result, name, "f1", (level, level), seeds=(0.0, 0.0, 0.0))
    rows = {(r["claim"], r["measure"]): r for r in claims.of_synthbench(result)[:6]}
    means = {measure: row["mean"] for (_, measure), row in rows.items() if measure.startswith("f1")}
    assert means == pytest.approx(
        {
            "f1, matryoshka minus the best of relu, batchtopk, jumprelu": -0.1,
            "f1, relu minus the worst of batchtopk, jumprelu, matryoshka": 0.1,
            "f1, matryoshka minus batchtopk": 0.2,
        }
    )
    (row,) = [
        r for (claim, _), r in rows.items() if claim == "Matryoshka SAEs detect features best"
    ]
    assert row["published"] == "+0.148 at L0 25"
    assert row["details"] == "f1: matryoshka 0.6, relu 0.5, batchtopk 0.4, jumprelu 0.7"


def test_what_does_not_reach_the_l0_is_not_judged():
    result = make()
    result.final["l0"][result.final["l0"] == 12.0] = 4.0
    got = answers(result)
    assert {a for key, a in got.items() if key[2] in ("20", "25")} == {
        "not measured: no seed has a value"
    }


def test_an_absent_architecture_is_named():
    result = make()
    result.coords["architecture"] = tuple("topk" if n == "matryoshka" else n for n in NAMES)
    table = claims.of_synthbench(result)
    missing = [r["answer"] for r in table if "Matryoshka" in r["claim"]]
    assert set(missing) == {"not measured: needs matryoshka and relu or batchtopk or jumprelu"}
    assert sum(r["answer"] == "not measured: needs matryoshka and batchtopk" for r in table) == 4
