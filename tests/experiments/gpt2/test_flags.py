"""Flags and flagfiles of the GPT-2 study."""

import pytest
from helpers import commands
from helpers.chat_server import KEY
from helpers.commands import ROOT
from helpers.gpt2_study import TINY, run

from saejax.experiments.gpt2 import __main__ as gpt2

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
