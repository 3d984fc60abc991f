"""Which entries of two nested descriptions differ, for errors that name every such setting."""

import json
from collections.abc import Mapping
from typing import Any


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Entries of nested mappings by their dotted names, values as JSON holds them."""
    out: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            out |= _flat(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = json.loads(json.dumps(value))
    return out


def differences(got: Mapping[str, Any], allowed: Mapping[str, Any]) -> list[str]:
    """A line `name: got X, allowed: Y` for every entry that differs, in the order of the names.

    Both are nested mappings of JSON types; an entry that one of them lacks counts as 'nothing'.
    """
    here, there = _flat(got), _flat(allowed)
    pairs = {n: (here.get(n, "nothing"), there.get(n, "nothing")) for n in {*here, *there}}
    return [f"{n}: got {a!r}, allowed: {b!r}" for n, (a, b) in sorted(pairs.items()) if a != b]
