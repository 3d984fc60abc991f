"""What two nested descriptions have otherwise: for errors that name every setting that differs."""

import json
from collections.abc import Mapping
from typing import Any


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Entries of nested mappings by their dotted names, values as JSON holds them."""
    out: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = json.loads(json.dumps(value))
    return out


def differences(got: Mapping[str, Any], allowed: Mapping[str, Any]) -> list[str]:
    """A line `name: got X, allowed: Y` for every entry that is not the same in both, by name.

    Args:
        got: nested mappings of JSON types.
        allowed: likewise; what one of them lacks counts as 'nothing'.
    """
    here, there = flat(got), flat(allowed)
    absent = "nothing"
    return [
        f"{name}: got {here.get(name, absent)!r}, allowed: {there.get(name, absent)!r}"
        for name in sorted(here.keys() | there.keys())
        if here.get(name, absent) != there.get(name, absent)
    ]
