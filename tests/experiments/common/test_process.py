"""How a command starts: its flags of several processes, its devices, its compiled programs."""

import os
import subprocess
import sys

import jax
import pytest
from absl import flags
from helpers import commands

from saejax.experiments.common import command, process
from saejax.experiments.grid import __main__ as grid


def own_flags(**values):
    own = flags.FlagValues()
    process.define_cache(own)
    process.define_distributed(own)
    own.mark_as_parsed()
    for name, value in values.items():
        own[name].value = value
    return own


@pytest.fixture
def updates(monkeypatch):
    """What `begin` changes about JAX, of a JAX that nobody has told anything."""
    seen = {}
    monkeypatch.setattr(jax.config, "update", seen.__setitem__)
    for name in ("JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    return seen


def test_every_core_is_a_device_and_programs_are_kept(updates, tmp_path):
    process.begin(own_flags(compilation_cache=str(tmp_path)))
    assert updates["jax_num_cpu_devices"] == len(os.sched_getaffinity(0))
    assert updates["jax_compilation_cache_dir"] == str(tmp_path)


def test_what_the_environment_says_goes_first(updates, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    process.begin(own_flags())
    assert updates == {}


def test_no_cache_and_a_home_are_understood(updates):
    process.begin(own_flags(compilation_cache=""))
    assert "jax_compilation_cache_dir" not in updates
    process.begin(own_flags())
    assert updates["jax_compilation_cache_dir"] == os.path.expanduser("~/.cache/saejax")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"coordinator": "a:1"}, "coordinator: got 'a:1', allowed: only with --distributed"),
        ({"process_id": 0}, "process_id: got 0, allowed: only with --distributed"),
        (
            {"distributed": True, "coordinator": "a:1", "process_id": 0},
            "num_processes: got nothing, allowed: a value, as coordinator has one",
        ),
        (
            {"distributed": True},
            "distributed: got True, but the processes do not find each other: .*",
        ),
    ],
)
def test_processes_that_cannot_find_each_other_are_told(updates, values, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        process.begin(own_flags(**values))


def test_the_processes_are_joined_as_the_flags_say(updates, monkeypatch):
    seen = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given: seen.append(given))
    process.begin(own_flags(distributed=True, coordinator="a:1", num_processes=2, process_id=1))
    process.begin(own_flags(distributed=True))
    assert seen == [("a:1", 2, 1), (None, None, None)]


def test_no_study_starts_a_backend_when_it_is_imported():
    code = (
        "from saejax.experiments import bimodality, gpt2, grid, tokens, toy3d; "
        "from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=commands.ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "False"


def test_flags_of_the_process_are_not_kept_with_the_run():
    with commands.parsing(grid) as parse:
        parse(
            "--workdir=x", "--dry_run", "--distributed", "--process_id=1", "--checkpoint_every=2000"
        )
        text = command.flagfile(grid.FLAGS)
    assert "--checkpoint_every=2000\n" in text
    for name in ("dry_run", "distributed", "process_id", "compilation_cache"):
        assert name not in text


def test_a_dry_run_prints_the_plan_and_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "train", lambda *_, **__: pytest.fail("it was trained"))
    with commands.parsing(grid) as parse:
        tiny = [
            "--datasets=uncorrelated",
            "--ratio=1",
            "--l1=0.01,0.1",
            "--d_in=6",
            "--n_features=8",
            "--avg_active=2",
            "--steps=40",
            "--eval_every=20",
            "--batch_size=16",
        ]
        grid.main(parse(*tiny, f"--workdir={tmp_path / 'run'}", "--dry_run"))
    text = capsys.readouterr().out
    for word in (
        "d_sae",
        "parameters",
        "cell_batch",
        "GFLOP a step",
        "weights",
        "moments",
        "activations",
        "training step",
        "evaluation",
        "total",
    ):
        assert word in text
    assert "208" in text  # parameters of two cells: W_enc and W_dec of 6 x 8, b_enc of 8
    assert list(tmp_path.iterdir()) == []
