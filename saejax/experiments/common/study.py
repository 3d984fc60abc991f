"""A study that is one sweep: its flags, and the command that trains, measures and reports."""

from collections.abc import Callable, Iterable
from typing import Any

from absl import flags

from saejax import report
from saejax.experiments.common import command, process
from saejax.results.result import Result
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep


def flags_of(workdir: str, **training: Any) -> flags.FlagValues:
    """The flags that every study has which is one sweep.

    Args:
        workdir: the default of `--workdir`.
        training: defaults, as `command.define_training` takes them.
    """
    own = flags.FlagValues()
    command.define_workdir(own, workdir)
    command.define_training(own, **training)
    process.define_cache(own)
    process.define_distributed(own)
    return own


def sweep(own: flags.FlagValues, **others: Any) -> Sweep:
    """The sweep of a study: l1, seeds and lr of its flags, and further arguments of `Sweep`.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    l1, seeds = command.numbers(own, "l1"), command.seeds(own)
    return Sweep(**{"l1": l1, "seeds": seeds, "lr": command.numbers(own, "lr")} | others)


def settings(own: flags.FlagValues, **others: Any) -> Settings:
    """The settings that a study's flags describe, each named like a field of `Settings`.

    Args:
        own: the study's flags.
        others: settings without a flag of their name, or that are read from it in another way.
    """
    return Settings(**command.given(own, Settings) | others)


def run(
    argv: list[str],
    own: flags.FlagValues,
    name: str,
    config: Callable[[], tuple[Any, ...]],
    measure: Callable[[Result], None] = lambda result: None,
    said: Callable[[Result], Iterable[str]] = lambda result: (),
) -> None:
    """Trains a study's sweep, and leaves the report in the workdir.

    Args:
        argv: what is left of the command line.
        own: the study's flags.
        name: of the study, whose page `saejax.report` draws.
        config: gives the sweep, its data and its settings, and may give a dict of what else
            run.json is to hold of the study.
        measure: leaves in the workdir what the page shows beside the SAEs.
        said: lines to print once the report is there.
    """
    with command.one_line_errors(argv, own.workdir):
        asked, data, training, *about = config()
        about = {"name": name} | (about[0] if about else {})
        result = command.trained(own, asked, data, training, study=about)
        if result is None:
            return
        measure(result)
        page = report.write(own.workdir)
    for line in said(result):
        print(line)
    print(f"report: {page}")


def best(result: Result, metric: str, **where: Any) -> dict[str, Any] | None:
    """The best SAE, as `Result.best` has it; None where every one was frozen."""
    try:
        return result.best(metric, **where)
    except ValueError:
        return None
