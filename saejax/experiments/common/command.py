"""What all commands share: flags, one-line errors, and the flagfile that repeats a run."""

import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging

from saejax.core.precision import PRECISIONS
from saejax.data.synthetic import recipe
from saejax.data.synthetic.recipe import Synthetic
from saejax.experiments.common import flagfiles, process
from saejax.results import workdir
from saejax.results.result import Result
from saejax.sae.revival import REVIVALS, Resample
from saejax.training.forecast import describe_plan, probe
from saejax.training.loop import check_saving, train
from saejax.training.memory import estimate
from saejax.training.plan import Plan
from saejax.training.planning import make_plan
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep
from saejax.training.trackers.choice import NAMED


def texts(values: Sequence[Any]) -> list[str]:
    """Values as a flagfile holds them."""
    return [f"{v:.7g}" if isinstance(v, float) else str(v) for v in values]


def define_workdir(own: flags.FlagValues, default: str | None) -> None:
    """The flag `--workdir`, required where there is no default."""
    flags.DEFINE_string(
        "workdir",
        default,
        "Folder for the results: new, empty, or of the same run, which goes on.",
        flag_values=own,
        required=default is None,
    )


def define_training(
    own: flags.FlagValues,
    *,
    l1: Sequence[float],
    seeds: Sequence[int | str],
    lr: Sequence[float],
    steps: int,
    eval_every: int,
) -> None:
    """The flags that every study has which trains a sweep, with this study's defaults."""
    flags.DEFINE_list("l1", texts(l1), "L1 coefficients.", flag_values=own)
    flags.DEFINE_list(
        "seeds",
        texts(seeds),
        "One SAE of each kind for each; 0-4 is five of them.",
        flag_values=own,
    )
    flags.DEFINE_list("lr", texts(lr), "Adam's learning rates.", flag_values=own)
    flags.DEFINE_integer("steps", steps, "Training steps.", flag_values=own)
    flags.DEFINE_integer("eval_every", eval_every, "Steps between evaluations.", flag_values=own)
    flags.DEFINE_integer(
        "checkpoint_every",
        None,
        "Steps between checkpoints, a multiple of eval_every. Default: one each five minutes.",
        flag_values=own,
    )
    flags.DEFINE_integer(
        "keep_checkpoints", 2, "How many of the newest checkpoints are kept.", flag_values=own
    )
    flags.DEFINE_list(
        "trackers",
        [],
        f"Where the run can be watched too, of: {', '.join(NAMED)}.",
        flag_values=own,
    )
    flags.DEFINE_bool(
        "dry_run",
        False,
        "Print what the run needs and how long it takes, and end.",
        flag_values=own,
    )
    flags.DEFINE_enum(
        "matmul_precision",
        "highest",
        list(PRECISIONS),
        "Operands of the products.",
        flag_values=own,
    )
    flags.DEFINE_integer(
        "cell_batch",
        None,
        "Cells of one width trained side by side. Default: 1 on a CPU, else as many as fit.",
        flag_values=own,
    )


def saving(own: flags.FlagValues) -> dict[str, Any]:
    """The arguments of `saejax.train` that say when a run is saved."""
    return {name: own[name].value for name in ("checkpoint_every", "keep_checkpoints")}


def beside(own: flags.FlagValues) -> dict[str, Any]:
    """The arguments of `saejax.train` that change nothing about a run's results."""
    return {**saving(own), "trackers": own["trackers"].value}


def define_revival(own: flags.FlagValues, every: int = 0) -> None:
    """The flags of how dead latents are revived."""
    flags.DEFINE_list(
        "resample",
        None,
        f"Ways to revive dead latents, one cell for each, of: {', '.join(REVIVALS)}. "
        "Default: on where resample_every is above 0, else off.",
        flag_values=own,
    )
    for name, default, text in (
        ("resample_every", every, "Steps between revivals by on and anthropic; 0 is never."),
        (
            "resample_window",
            None,
            "Steps in which a latent must have been silent before. Default: 10, "
            "or resample_every where that is less.",
        ),
        (
            "ghost_after",
            0,
            "Steps of silence from which ghost gives a latent gradients; 0 is never.",
        ),
        (
            "aux_after",
            0,
            "Likewise for auxk, the auxiliary loss of topk, batchtopk and matryoshka.",
        ),
    ):
        flags.DEFINE_integer(name, default, text, flag_values=own)
    flags.DEFINE_float(
        "resample_bias", Resample.bias, "b_enc of a latent that on revives.", flag_values=own
    )


def revival(own: flags.FlagValues, threshold: float = 0.0) -> tuple[list[str], Resample]:
    """The axis `resample` and its rule.

    Args:
        own: the study's flags.
        threshold: activation that counts as silence.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    ways = ["on"] if own.resample_every else ["off"]
    if own.resample is not None:
        ways = chosen(own, "resample", REVIVALS)
    names = {"resample window": "resample_window", "resample bias": "resample_bias"}
    with flag_names(**names, **{"resample threshold": "dead_threshold"}):
        rule = Resample(
            every=own.resample_every,
            window=own.resample_window,
            threshold=threshold,
            bias=own.resample_bias,
            ghost_after=own.ghost_after,
            aux_after=own.aux_after,
        )
    return ways, rule


def numbers(own: flags.FlagValues, name: str, kind: Callable[[str], Any] = float) -> list:
    """The numbers in a list flag.

    Raises:
        ValueError: where one is none, naming the flag.
    """
    try:
        return [kind(text) for text in own[name].value or []]
    except ValueError:
        raise ValueError(
            f"{name}: got {own[name].value!r}, allowed: "
            f"{'whole numbers' if kind is int else 'numbers'} separated by commas"
        ) from None


def seeds(own: flags.FlagValues) -> list[int]:
    """The whole numbers in `--seeds`, of which `2-5` stands for 2, 3, 4, 5.

    Raises:
        ValueError: where one is none, or a range runs backwards.
    """
    out = []
    for text in own["seeds"].value or []:
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        if ends is None or int(ends[2] or ends[1]) < int(ends[1]):
            raise ValueError(
                f"seeds: got {text!r}, allowed: whole numbers or ranges (0-4) separated by commas"
            )
        out += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
    return out


def one_number(own: flags.FlagValues, name: str) -> float:
    """The number in a list flag of which this study takes one value only.

    Raises:
        ValueError: where there are none or several.
    """
    values = numbers(own, name)
    if len(values) != 1:
        raise ValueError(f"{name}: got {own[name].value!r}, allowed: one number")
    return values[0]


def chosen(own: flags.FlagValues, name: str, allowed: Sequence[Any]) -> list[Any]:
    """The entries of a list flag, of which only some are allowed.

    Raises:
        ValueError: for none, for one that is not allowed, and for one that stands twice.
    """
    got = own[name].value or []
    if not got or len({*got}) < len(got) or not {*got} <= {*allowed}:
        raise ValueError(
            f"{name}: got {','.join(got)!r}, allowed: each of {', '.join(allowed)} at most once, "
            "at least one"
        )
    return got


def data_sets(own: flags.FlagValues) -> dict[str, Synthetic]:
    """The data sets of `--datasets`, with every setting of `Synthetic` that the study has a flag
    for.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    return {
        kind: Synthetic(kind, **given(own, Synthetic))
        for kind in chosen(own, "datasets", recipe.KINDS)
    }


def given(own: flags.FlagValues, settings: type) -> dict[str, Any]:
    """Values of the flags that have the name of a field of a settings class."""
    names: list[str] = [field.name for field in fields(settings) if field.name in own]
    return {name: own[name].value for name in names}


def flagfile(own: flags.FlagValues) -> str:
    """Flagfile that replays a run: every flag of the study that has a value."""
    lines = [
        f"--{name}={','.join(value) if isinstance(value, list) else value}"
        for name in own
        if name not in workdir.PROCESS_FLAGS and (value := own[name].value) is not None
    ]
    return "\n".join(lines) + "\n"


def trained(
    own: flags.FlagValues, sweep: Sweep, data: Any, settings: Settings, study: Mapping[str, Any]
) -> Result | None:
    """The trained sweep of a study; None where there is nothing more to do for this process.

    With `--dry_run` the plan is printed instead, and of several processes the first alone goes on
    to the report.
    """
    if own["dry_run"].value:
        if jax.process_count() > 1:
            raise ValueError("dry_run: got True, allowed: without --distributed, in one process")
        check_saving(**saving(own), settings=settings)
        dry_run(make_plan(sweep, data, settings))
        return None
    result = train(
        sweep,
        data,
        settings,
        workdir=str(own["workdir"].value),
        flags=flagfile(own),
        study=study,
        **beside(own),
    )
    return result if process.first() else None


def dry_run(plan: Plan) -> None:
    """Prints what a run needs and how long it will take, from a short measurement."""
    print(describe_plan(plan, estimate(plan), probe(plan)))


@contextmanager
def flag_names(**flag_of: str) -> Iterator[None]:
    """Lets errors that begin with the name of a library's argument begin with that of its flag.

    Args:
        flag_of: argument = flag.

    Raises:
        ValueError: what was raised inside, with the other name.
    """
    try:
        yield
    except ValueError as error:
        name, colon, rest = str(error).partition(":")
        raise ValueError(f"{flag_of.get(name, name)}{colon}{rest}") from None


@contextmanager
def one_line_errors(
    argv: list[str], workdir: str, stages: bool = False, goes_on: bool = True
) -> Iterator[ExitStack]:
    """Ends the command with one line where its input is bad or somebody pressed Ctrl-C.

    Args:
        argv: what is left of the command line.
        workdir: of the run.
        stages: whether it works in stages, of which it keeps those that are whole.
        goes_on: whether the same command goes on after an interruption.

    Yields:
        What is left when the command ends, as a workdir that it holds.
    """
    logging.set_verbosity(logging.WARNING)  # JAX announces every backend that it does not find
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        if len(argv) > 1:
            raise ValueError(f"got the argument {argv[1]!r}, allowed: flags only")
        with ExitStack() as until_end:
            yield until_end
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        if stages:
            sys.exit(f"interrupted; whole stages are kept in {workdir}, the same command goes on")
        if (Path(workdir) / "run.json").exists():
            also = "the same command goes on, " if goes_on else ""
            sys.exit(
                f"interrupted; what was measured so far is in {workdir}, {also}and "
                f"`python -m saejax.report {workdir}` shows it"
            )
        sys.exit("interrupted before anything was measured")


def run(main: Callable[[list[str]], None], own: flags.FlagValues) -> None:
    """Parses a study's flags and starts it.

    A study has flags of its own instead of adding to absl's global ones, so that several can be
    imported side by side with different defaults.
    """

    def parse(argv: list[str]) -> list[str]:
        for name in own:
            flags.FLAGS[name] = own[name]
            flags.FLAGS.register_key_flag_for_module(argv[0], own[name])
        try:
            rest = flags.FLAGS(flagfiles.found(argv))
            own.mark_as_parsed()
            own.validate_all_flags()
        except flags.Error as error:
            sys.exit(f"error: {error}")
        return rest

    def begin(argv: list[str]) -> None:
        try:
            process.begin(own)
        except ValueError as error:
            sys.exit(f"error: {error}")
        main(argv)

    app.run(begin, flags_parser=parse)
