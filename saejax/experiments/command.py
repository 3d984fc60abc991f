"""What the commands of all studies share: their flags, one-line errors, the flagfile that replays."""

import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from saejax.data.synthetic import KINDS, Synthetic
from saejax.precision import PRECISIONS


def texts(values: Sequence[Any]) -> list[str]:
    """Values as a flagfile holds them."""
    return [f"{v:.7g}" if isinstance(v, float) else str(v) for v in values]


def define_workdir(own: flags.FlagValues, default: str | None) -> None:
    """The flag `--workdir`, required where there is no default."""
    flags.DEFINE_string(
        "workdir", default, "Folder for the results; new or empty.", flag_values=own,
        required=default is None,
    )  # fmt: skip


def define_training(
    own: flags.FlagValues, *, l1: Sequence[float], seeds: Sequence[int | str], lr: Sequence[float],
    steps: int, eval_every: int,
) -> None:  # fmt: skip
    """The flags that every study has which trains a sweep, with this study's defaults."""
    flags.DEFINE_list("l1", texts(l1), "L1 coefficients.", flag_values=own)
    flags.DEFINE_list(
        "seeds", texts(seeds), "One SAE of each kind for each; 0-4 is five of them.", flag_values=own
    )
    flags.DEFINE_list("lr", texts(lr), "Adam's learning rates.", flag_values=own)
    flags.DEFINE_integer("steps", steps, "Training steps.", flag_values=own)
    flags.DEFINE_integer("eval_every", eval_every, "Steps between evaluations.", flag_values=own)
    flags.DEFINE_enum(
        "matmul_precision", "highest", list(PRECISIONS), "Operands of the products.", flag_values=own
    )
    flags.DEFINE_integer(
        "cell_batch", None, "Cells of one width trained side by side. Default: 1 on a CPU, else as "
        "many as fit.", flag_values=own,
    )  # fmt: skip


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
            f"{name}: got {','.join(got)!r}, allowed: each of {', '.join(allowed)} at most once, at "
            "least one"
        )
    return got


def data_sets(own: flags.FlagValues) -> dict[str, Synthetic]:
    """The data sets of `--datasets`, with every setting of `Synthetic` that the study has a flag for.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    names = [field.name for field in fields(Synthetic) if field.name in own]
    settings: dict[str, Any] = {name: own[name].value for name in names}
    return {kind: Synthetic(kind, **settings) for kind in chosen(own, "datasets", KINDS)}


def flagfile(own: flags.FlagValues) -> str:
    """Flagfile that replays a run: every flag of the study that has a value."""
    lines = [
        f"--{name}={','.join(value) if isinstance(value, list) else value}"
        for name in own
        if (value := own[name].value) is not None
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def one_line_errors(argv: list[str], workdir: str) -> Iterator[None]:
    """Ends the command with one line where its input is bad or somebody pressed Ctrl-C."""
    logging.set_verbosity(logging.WARNING)  # JAX announces every backend that it does not find
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        if len(argv) > 1:
            raise ValueError(f"got the argument {argv[1]!r}, allowed: flags only")
        yield
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        if (Path(workdir) / "run.json").exists():
            sys.exit(
                f"interrupted; what was measured so far is in {workdir}, and "
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
            rest = flags.FLAGS(argv)
            own.mark_as_parsed()
            own.validate_all_flags()
        except flags.Error as error:
            sys.exit(f"error: {error}")
        return rest

    app.run(main, flags_parser=parse)
