"""Flags and flagfiles of the baselines study."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
from absl import flags
from helpers.commands import ROOT

from saejax import Synthetic
from saejax.experiments.baselines import __main__ as baselines
from saejax.experiments.common import command

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("sklearn", "kmedoids"))), reason="needs sklearn and kmedoids"
)
FLAGFILES = sorted((ROOT / "experiments" / "baselines").glob("*.flags"))
TINY = [
    "--d_in=6",
    "--n_features=8",
    "--avg_active=1.5",
    "--feature_decay=0.98",
    "--batch_size=16",
    "--seeds=0,1",
    "--sizes=16,32",
    "--kmeans_sizes=64",
    "--tsne_samples=40",
    "--decays=0.9,1",
]


# ---------------------------------------------------------------------------------------- flags


def test_the_defaults_are_the_published_sizes(parse):
    parse()
    plan, maps, grid = baselines.config()
    assert grid is None
    published = {"d_in": 256, "n_features": 512, "avg_active": 5.0, "feature_decay": 0.99}
    assert plan.specs == {
        kind: Synthetic(kind, **published) for kind in ("uncorrelated", "correlated")
    }
    assert (plan.methods, plan.seeds) == (["kmeans", "kmedoids", "pca", "ica"], [0, 1, 2, 3, 4])
    assert plan.sizes == [512, 1024, 1536, 2048]
    assert max(plan.kmeans_sizes) == 409_600
    assert plan.batch_size == 4096
    assert [*maps] == [0.95, 0.99, 1.0]
    assert maps[0.95]["correlated"] == Synthetic(
        "correlated", **(published | {"feature_decay": 0.95})
    )
    assert baselines.FLAGS.tsne_samples == 2048


def test_quick_gives_the_sizes_of_a_laptop_and_yields_to_flags(parse):
    parse("--quick")
    plan, _, _ = baselines.config()
    spec = Synthetic("uncorrelated", d_in=48, n_features=96, avg_active=1.2, feature_decay=0.98)
    assert plan.specs["uncorrelated"] == spec
    assert (plan.sizes, plan.kmeans_sizes, plan.batch_size) == (
        [256, 512, 1024, 2048],
        [4096, 16384],
        128,
    )
    assert baselines.FLAGS.tsne_samples == 1000
    parse("--quick", "--n_features=50", "--sizes=64", "--kmeans_sizes=", "--avg_active=2")
    plan, _, _ = baselines.config()
    assert plan.specs["uncorrelated"] == replace(spec, n_features=50, avg_active=2.0)
    assert (plan.sizes, plan.kmeans_sizes) == ([64], [])


def test_a_quick_run_is_replayed_with_its_sizes(parse, tmp_path):
    parse("--quick", "--kmeans_sizes=", "--decays=")
    expected, text = baselines.config(), command.flagfile(baselines.FLAGS)
    (tmp_path / "config.flags").write_text(text)
    parse(f"--flagfile={tmp_path / 'config.flags'}")
    assert baselines.config() == expected
    assert command.flagfile(baselines.FLAGS) == text


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda p: p.stem)
def test_shipped_flagfiles_describe_a_run(parse, path):
    parse(f"--flagfile={path}", "--grid_workdir=")
    plan, maps, _ = baselines.config()
    assert plan.n_fits > 0
    assert maps
    header = path.read_text()
    assert f"--flagfile=experiments/baselines/{path.name}" in header
    assert all(
        f"# {word}:" in header for word in ("Question", "Command", "Needs", "Time", "Expect")
    )


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--datasets=", "datasets: got '', allowed: each of uncorrelated, correlated, copula"),
        ("--datasets=gaussian", "datasets: got 'gaussian', allowed: each of uncorrelated"),
        ("--datasets=copula,copula", "datasets: got 'copula,copula', allowed: .* at most once"),
        ("--methods=", "methods: got '', allowed: each of kmeans, kmedoids, pca, ica"),
        ("--methods=nmf", "methods: got 'nmf', allowed: each of kmeans"),
        ("--seeds=", r"seeds: got \[\], allowed: distinct whole numbers"),
        ("--seeds=1,1", r"seeds: got \[1, 1\], allowed: distinct whole numbers"),
        ("--seeds=4294967296", r"seeds: got \[4294967296\], allowed: .* to 2\*\*32 - 1"),
        ("--d_in=0", "d_in: got 0, allowed: 1 or more"),
        ("--avg_active=100", r"avg_active: got 100\.0, allowed: up to 7"),
        ("--sizes=", r"sizes: got \[\], allowed: numbers of samples from n_features=8 on"),
        ("--sizes=16,7", r"sizes: got \[16, 7\], allowed: numbers of samples from n_features=8 on"),
        ("--kmeans_sizes=7", r"kmeans_sizes: got \[7\], allowed: numbers of samples"),
        ("--sizes=1e3", r"sizes: got \['1e3'\], allowed: whole numbers"),
        ("--batch_size=0", "batch_size: got 0, allowed: 1 or more"),
        ("--tsne_samples=30", "tsne_samples: got 30, allowed: more than 30"),
        (
            "--decays=2",
            r"decays: got 2, allowed: .*feature_decay: got 2\.0, allowed: above 0, up to 1",
        ),
        ("--decays=0.1", r"decays: got 0\.1, allowed: .*avg_active: got 1\.5, allowed: up to 1\.1"),
        ("--decays=few", r"decays: got \['few'\], allowed: numbers separated by commas"),
    ],
)
def test_a_bad_value_names_flag_value_and_allowed(parse, tmp_path, flag, message):
    path = tmp_path / "run"
    arguments = parse(*TINY, f"--workdir={path}", flag)
    with pytest.raises(SystemExit, match=f"^error: {message}") as error:
        baselines.main(arguments)
    assert "\n" not in str(error.value)
    assert not path.exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [("--quick=maybe", "--quick=maybe: .*bool"), ("--l1=1", "Unknown command line flag 'l1'")],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_flag(parse, flag, message):
    with pytest.raises(flags.Error, match=message):
        parse(*TINY, flag)
