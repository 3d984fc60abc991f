"""Flags of a command as a table: a line each, with its name, its default and its help."""

from collections.abc import Sequence
from typing import Any

from absl import flags

_KINDS = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    bool: flags.DEFINE_bool,
    list: flags.DEFINE_list,
}


def define(own: flags.FlagValues, kind: type | Sequence[str], **rows: tuple[Any, str]) -> None:
    """Defines flags of one kind.

        define(FLAGS, int, d_sae=(20, "Number of latents."), seed=(0, "Of their weights."))

    Args:
        own: the flags of a study.
        kind: str, int, float, bool, list, or the values that a flag may have.
        rows: name = (default, help).
    """
    for name, (default, text) in rows.items():
        if isinstance(kind, type):
            _KINDS[kind](name, default, text, flag_values=own)
        else:
            flags.DEFINE_enum(name, default, list(kind), text, flag_values=own)


def define_fields(own: flags.FlagValues, settings: type, **helps: str) -> None:
    """Defines flags of the fields of a settings class, which has their kinds and defaults.

    Args:
        own: the flags of a study.
        settings: the class.
        helps: name of a field = help.
    """
    for name, text in helps.items():
        default = getattr(settings, name)
        define(own, type(default), **{name: (default, text)})
