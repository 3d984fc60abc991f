"""A study that is one sweep: its settings, and the command that trains, measures and reports."""

from collections.abc import Callable, Iterable
from typing import Any

from absl import flags

from saejax import report
from saejax.experiments.common import command
from saejax.results.result import Result
from saejax.training.settings import Settings


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
        sweep, data, training, *about = config()
        about = {"name": name} | (about[0] if about else {})
        result = command.trained(own, sweep, data, training, study=about)
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
