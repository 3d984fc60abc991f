"""Flags of the toy study."""

import pytest
from absl import flags
from helpers.commands import ROOT

from saejax import Synthetic
from saejax.experiments.common import command
from saejax.experiments.toy3d import __main__ as toy3d

FLAGFILE = ROOT / "experiments" / "toy3d" / "default.flags"
TINY = [
    "--ratio=1,2",
    "--l1=0.01,0.3",
    "--seeds=3,4",
    "--n_features=4",
    "--batch_size=256",
    "--steps=480",
    "--eval_every=120",
    "--snapshot_every=60",
    "--pca_draws=3",
]


# ---------------------------------------------------------------------------------------- flags


def test_the_flagfile_describes_the_published_sweep(parse):
    parse(f"--flagfile={FLAGFILE}")
    sweep, data, settings = toy3d.config()
    assert len(sweep.l1) == 6
    assert sweep.ratio == (4.0, 8.0)
    assert sweep.widths(data.n_features) == (24, 48)
    assert data == Synthetic("correlated", d_in=3, n_features=6, avg_active=1.5, feature_decay=0.9)
    assert settings.snapshot_every == 10
    assert settings.steps % settings.eval_every == 0
    assert toy3d.FLAGS.workdir == "runs/toy3d"
    header = FLAGFILE.read_text()
    assert "--flagfile=experiments/toy3d/default.flags" in header
    assert all(f"# {word}:" in header for word in ("Question", "Command", "Time", "Expect"))


def test_the_defaults_are_those_of_the_flagfile(parse):
    parse(f"--flagfile={FLAGFILE}")
    expected = toy3d.config(), command.flagfile(toy3d.FLAGS)
    parse()
    assert (toy3d.config(), command.flagfile(toy3d.FLAGS)) == expected


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--ratio=", "ratio: got no value, allowed: at least one"),
        ("--ratio=0.3", r"ratio: got 0\.3, .*n_features=4; allowed: .*whole number"),
        ("--l1=-1", r"l1: got -1\.0, allowed: a number, 0 or more"),
        ("--seeds=a", "seeds: got 'a', allowed: whole numbers"),
        ("--lr=0.1,0.2", r"lr: got \['0\.1', '0\.2'\], allowed: one number"),
        ("--lr=", r"lr: got \[\], allowed: one number"),
        ("--n_features=0", "n_features: got 0, allowed: 1 or more"),
        ("--avg_active=9", r"avg_active: got 9\.0, allowed: up to"),
        ("--feature_decay=0", r"feature_decay: got 0\.0, allowed: above 0"),
        ("--batch_size=0", "batch_size: got 0, allowed: a whole number, 1 or more"),
        ("--snapshot_every=0", "snapshot_every: got 0, allowed: 1 or more"),
        (
            "--snapshot_every=50",
            "snapshot_every: got 50, allowed: 0, or a divisor of eval_every=120",
        ),
        ("--steps=100", "steps: got 100, allowed: a multiple of eval_every=120"),
    ],
)
def test_a_bad_value_names_flag_value_and_allowed(parse, tmp_path, flag, message):
    path = tmp_path / "run"
    arguments = parse(*TINY, f"--workdir={path}", flag)
    with pytest.raises(SystemExit, match=f"^error: {message}") as error:
        toy3d.main(arguments)
    assert "\n" not in str(error.value)
    assert not path.exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--dataset=gaussian", "--dataset=gaussian: .*uncorrelated"),
        ("--pca_draws=0", "--pca_draws=0: 0 is not a positive integer"),
        ("--snapshot_every=few", "--snapshot_every=few: .*int"),
        ("--d_in=4", "Unknown command line flag 'd_in'"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_flag(parse, flag, message):
    with pytest.raises(flags.Error, match=message):
        parse(*TINY, flag)


def test_a_used_workdir_is_refused_and_kept(parse, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SystemExit, match=r"error: workdir: got .*new or empty"):
        toy3d.main(parse(*TINY, f"--workdir={tmp_path}"))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
