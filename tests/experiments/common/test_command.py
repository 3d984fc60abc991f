"""What all study commands share: one-line errors, flags side by side, Ctrl-C, numbers in flags."""

import sys
import warnings

import pytest
from absl import flags, logging
from helpers import commands

from saejax.experiments.baselines import __main__ as baselines
from saejax.experiments.common import command
from saejax.experiments.grid import __main__ as grid
from saejax.experiments.tokens import __main__ as tokens
from saejax.experiments.toy3d import __main__ as toy3d
from saejax.report import __main__ as cli
from saejax.results.workdir import RunLog

STUDIES = {"baselines": baselines, "grid": grid, "tokens": tokens, "toy3d": toy3d}
TINY = ["--l1=0.01", "--seeds=0", "--d_sae=2", "--steps=4", "--eval_every=2"]


@pytest.fixture
def as_before():
    """Puts back what a command changes for the whole process."""
    saved = warnings.formatwarning, logging.get_verbosity()
    yield
    warnings.formatwarning = saved[0]
    logging.set_verbosity(saved[1])


@pytest.fixture
def parse():
    with commands.parsing(tokens) as parse_afresh:
        yield parse_afresh


def own_flags(default="1"):
    own = flags.FlagValues()
    flags.DEFINE_list("values", [default], "Numbers.", flag_values=own)
    flags.DEFINE_bool("fast", False, "Whether.", flag_values=own)
    flags.DEFINE_string("name", None, "A name.", flag_values=own)
    return own


# ---------------------------------------------------------------------------------------- processes


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--l1=-1", "error: l1: got -1.0, allowed: a number, 0 or more, up to 1e18"),
        ("--step=5", "error: Unknown command line flag 'step'. Did you mean: steps ?"),
    ],
)
def test_a_bad_flag_ends_the_command_with_one_line(tmp_path, flag, message):
    out = commands.start("toy3d", f"--workdir={tmp_path / 'run'}", flag)
    assert out.returncode == 1
    assert (out.stdout, out.stderr) == ("", f"{message}\n")
    assert list(tmp_path.iterdir()) == []


def test_help_prints_the_flags_of_the_study_alone():
    out = commands.start("tokens", "--help")
    assert "Which groups of a handful of tokens" in out.stdout
    for name in tokens.FLAGS:
        assert f"\n  --{name}: " in out.stdout or f"\n  --[no]{name}: " in out.stdout
    assert "pca_draws" not in out.stdout
    assert "0.001,0.003,0.01,0.03,0.1,0.3" in out.stdout
    assert "Traceback" not in out.stderr


# ---------------------------------------------------------------------------------------- flags


@pytest.fixture
def run(monkeypatch, as_before):
    """`command.run` on a study's own arguments, with absl's global flags put back afterwards."""
    kept = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", kept)
    monkeypatch.setattr(command.app, "run", lambda main, flags_parser: main(flags_parser(sys.argv)))
    monkeypatch.setattr(command.process, "begin", lambda own: None)

    def run_with(main, own, *arguments):
        monkeypatch.setattr(sys, "argv", ["study", *arguments])
        command.run(main, own)

    return run_with


def test_studies_are_imported_side_by_side_with_defaults_of_their_own():
    for name, study in STUDIES.items():
        assert "workdir" in study.FLAGS
        assert study.FLAGS["workdir"].default == (None if name == "grid" else f"runs/{name}")
    # A flag of the same name is another flag in each.
    assert len({id(study.FLAGS["seeds"]) for study in STUDIES.values()}) == len(STUDIES)
    assert not {"l1", "ratio", "d_sae", "pca_draws"} & {*flags.FLAGS}


def test_a_command_hands_over_what_is_no_flag(run):
    own, seen = own_flags(), []
    run(lambda argv: seen.append((argv, own.values)), own, "--values=2,3", "more")
    assert seen == [(["study", "more"], ["2", "3"])]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--valeus=2", "error: Unknown command line flag 'valeus'"),
        ("--fast=perhaps", "error: flag --fast=perhaps: "),
    ],
)
def test_a_flag_error_is_one_line(run, argument, message):
    with pytest.raises(SystemExit) as error:
        run(lambda argv: None, own_flags(), argument)
    assert str(error.value.code).startswith(message)
    assert "\n" not in str(error.value.code)


def test_a_flag_without_its_value_is_one_line(run):
    own = own_flags()
    command.define_workdir(own, None)
    with pytest.raises(SystemExit, match=r"^error: .*workdir"):
        run(lambda argv: None, own)


def test_the_flagfile_of_a_run_gives_the_same_values_again(tmp_path):
    own = own_flags()
    own(["study", "--values=1e-3,x y", "--fast"])
    text = command.flagfile(own)
    assert {*text.splitlines()} == {"--values=1e-3,x y", "--fast=True"}
    (tmp_path / "config.flags").write_text(text)
    again = own_flags()
    again(["study", f"--flagfile={tmp_path / 'config.flags'}"])
    assert (again.values, again.fast, again.name) == (["1e-3", "x y"], True, None)


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("1,2.5,1e-3", float, [1.0, 2.5, 1e-3]),
        ("3,1", int, [3, 1]),
        ("", int, []),
        ("-3", int, [-3]),
    ],
)
def test_numbers_of_a_list(text, kind, expected):
    own = own_flags()
    own(["study", f"--values={text}"])
    assert command.numbers(own, "values", kind) == expected


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [("a", float, "numbers"), ("1-2", float, "numbers"), ("1.5", int, "whole numbers")],
)
def test_what_is_no_number_is_refused(text, kind, words):
    own = own_flags()
    own(["study", f"--values={text}"])
    with pytest.raises(ValueError, match=r"^values: got") as error:
        command.numbers(own, "values", kind)
    assert (
        str(error.value) == f"values: got {text.split(',')}, allowed: {words} separated by commas"
    )


def seeds_of(text):
    own = flags.FlagValues()
    flags.DEFINE_list("seeds", ["0"], "Seeds.", flag_values=own)
    own(["study", f"--seeds={text}"])
    return command.seeds(own)


@pytest.mark.parametrize(
    ("text", "expected"), [("3,1", [3, 1]), ("2-5,7", [2, 3, 4, 5, 7]), ("4-4", [4]), ("", [])]
)
def test_seeds_are_numbers_and_ranges(text, expected):
    assert seeds_of(text) == expected


@pytest.mark.parametrize(
    ("text", "bad"), [("a", "a"), ("1.5", "1.5"), ("1,4-2", "4-2"), ("1--2", "1--2")]
)
def test_what_is_no_seed_is_refused(text, bad):
    with pytest.raises(ValueError, match=f"^seeds: got '{bad}', allowed: whole numbers or ranges"):
        seeds_of(text)


def test_one_number_is_one():
    own = own_flags()
    own(["study", "--values=0.5"])
    assert command.one_number(own, "values") == 0.5
    for text, got in (("1,2", "['1', '2']"), ("", "[]")):
        own(["study", f"--values={text}"])
        with pytest.raises(ValueError, match=r"^values: got") as error:
            command.one_number(own, "values")
        assert str(error.value) == f"values: got {got}, allowed: one number"


def test_texts_keep_seven_figures():
    assert command.texts((0.01, 10**-1.75, 3, "0-4")) == ["0.01", "0.01778279", "3", "0-4"]


# ---------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("kind", [ValueError, OSError, ImportError])
def test_errors_of_the_input_become_one_line(as_before, kind):
    with pytest.raises(SystemExit) as error, command.one_line_errors(["study"], "run"):
        raise kind("what is wrong")
    assert error.value.code == "error: what is wrong"


def test_an_error_of_ours_keeps_its_traceback(as_before):
    with pytest.raises(ZeroDivisionError), command.one_line_errors(["study"], "run"):
        raise ZeroDivisionError


def test_an_argument_that_is_no_flag_is_refused(as_before):
    with pytest.raises(SystemExit) as error, command.one_line_errors(["study", "extra"], "run"):
        raise AssertionError("the command went on")
    assert error.value.code == "error: got the argument 'extra', allowed: flags only"


def test_a_warning_is_one_line_without_its_place_in_the_code(as_before):
    with command.one_line_errors(["study"], "run"):
        line = warnings.formatwarning("a cell froze", UserWarning, "train.py", 7)
    assert line == "warning: a cell froze\n"


# ---------------------------------------------------------------------------------------- Ctrl-C


def test_ctrl_c_while_compiling_leaves_nothing(parse, tmp_path, monkeypatch):
    def compile_chunk(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["saejax.training.loop"], "compile_chunk", compile_chunk)
    path = tmp_path / "run"
    with pytest.raises(SystemExit) as error:
        tokens.main(parse(*TINY, f"--workdir={path}"))
    assert error.value.code == "interrupted before anything was measured"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_after_a_measurement_says_how_to_see_it(parse, tmp_path, monkeypatch, capsys):
    evaluation = RunLog.evaluation

    def interrupted(*arguments):
        evaluation(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunLog, "evaluation", interrupted)
    path = tmp_path / "run"
    with pytest.raises(SystemExit) as error:
        tokens.main(parse(*TINY, f"--workdir={path}"))
    assert error.value.code == (
        f"interrupted; what was measured so far is in {path}, the same command goes on, and "
        f"`python -m saejax.report {path}` shows it"
    )
    monkeypatch.setattr(sys, "argv", ["report", str(path)])
    cli.main()
    assert capsys.readouterr().out == f"{path / 'report.html'}\n"
    assert "measured up to step 2 of 4" in (path / "report.html").read_text(encoding="utf-8")
