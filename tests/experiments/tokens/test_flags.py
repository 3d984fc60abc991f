"""Flags and token tables that the tokens study takes."""

import pytest
from absl import flags
from helpers.commands import ROOT

from saejax.data.token_table import published
from saejax.experiments.common import command
from saejax.experiments.tokens import __main__ as tokens

FLAGFILE = ROOT / "experiments" / "tokens" / "default.flags"
# The two large coefficients look alike to two digits. The low purity lets some seeds have own
# latents.
L1 = ("0.001", "0.101", "0.104")
TINY = [
    f"--l1={','.join(L1)}",
    "--seeds=0-2",
    "--d_sae=6",
    "--steps=60",
    "--eval_every=30",
    "--own_purity=0.7",
]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("name,x\ncat,1\ndog,1,2\n", 3, "got 3 fields, allowed: 2, as the header"),
        ("", 1, "got an empty file, allowed: a header and 2 tokens or more"),
        ("name,x\ncat,one\ndog,2\n", 2, "got 'one' in column 'x', allowed: a finite number"),
    ],
)
def test_a_faulty_table_ends_the_command_with_its_line(parse, tmp_path, text, line, message):
    table, path = tmp_path / "my.csv", tmp_path / "run"
    table.write_text(text)
    arguments = parse(*TINY, f"--table={table}", f"--workdir={path}")
    with pytest.raises(SystemExit) as error:
        tokens.main(arguments)
    assert str(error.value).startswith(f"error: {table}, line {line}: {message}")
    assert "\n" not in str(error.value)
    assert not path.exists()


def test_a_missing_table_is_named(parse, tmp_path):
    arguments = parse(f"--table={tmp_path / 'none.csv'}", f"--workdir={tmp_path / 'run'}")
    with pytest.raises(SystemExit, match=r"^error: .*none\.csv"):
        tokens.main(arguments)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------- flags


def test_the_defaults_are_the_published_autoencoder(parse):
    parse()
    table, sweep, settings = tokens.config()
    assert table == published()
    assert sweep.widths(4) == (20,)
    assert sweep.seeds == tuple(range(100))
    assert settings.batch_size == len(table.labels) == 8
    sae = settings.sae
    assert (sae.l1_reduction, sae.init, sae.use_b_dec) == ("mean", "linear", True)
    assert (sae.unit_norm, sae.apply_b_dec_to_input) == (False, False)
    assert settings.steps % settings.eval_every == 0
    assert tokens.FLAGS.own_purity == 0.9


def test_the_flagfile_holds_the_defaults(parse):
    parse()
    expected = tokens.config(), command.flagfile(tokens.FLAGS)
    parse(f"--flagfile={FLAGFILE}")
    assert (tokens.config(), command.flagfile(tokens.FLAGS)) == expected
    header = FLAGFILE.read_text()
    assert "--flagfile=experiments/tokens/default.flags" in header
    assert all(f"# {word}:" in header for word in ("Question", "Command", "Time", "Expect"))


@pytest.mark.parametrize("d_sae", [1, 7, 20, 33])
@pytest.mark.parametrize("d_in", [1, 3, 7])
def test_every_d_sae_fits_every_table(parse, tmp_path, d_sae, d_in):
    columns = ",".join(f"x{i}" for i in range(d_in))
    numbers = ",".join(["1"] * d_in)
    (tmp_path / "my.csv").write_text(f"name,{columns}\ncat,{numbers}\ndog,{numbers}\n")
    parse(f"--table={tmp_path / 'my.csv'}", f"--d_sae={d_sae}")
    assert tokens.config()[1].widths(d_in, "d_in") == (d_sae,)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--d_sae=0", "d_sae: got 0, allowed: 1 or more"),
        ("--d_sae=-3", "d_sae: got -3, allowed: 1 or more"),
        ("--own_purity=0", r"own_purity: got 0\.0, allowed: above 0, up to 1"),
        ("--own_purity=1.1", r"own_purity: got 1\.1, allowed: above 0, up to 1"),
        ("--own_purity=nan", "own_purity: got nan, allowed: above 0, up to 1"),
        ("--lr=0.1,0.2", r"lr: got \['0\.1', '0\.2'\], allowed: one number"),
        ("--l1=", "l1: got no value, allowed: at least one"),
        ("--seeds=x", "seeds: got 'x', allowed: whole numbers"),
        ("--steps=50", "steps: got 50, allowed: a multiple of eval_every=30"),
    ],
)
def test_a_bad_value_names_flag_value_and_allowed(parse, tmp_path, flag, message):
    path = tmp_path / "run"
    arguments = parse(*TINY, f"--workdir={path}", flag)
    with pytest.raises(SystemExit, match=f"^error: {message}") as error:
        tokens.main(arguments)
    assert "\n" not in str(error.value)
    assert not path.exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--own_purity=high", "--own_purity=high: .*float"),
        ("--batch_size=8", "Unknown command line flag 'batch_size'"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_flag(parse, flag, message):
    with pytest.raises(flags.Error, match=message):
        parse(*TINY, flag)
