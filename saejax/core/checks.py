"""Checks of numbers that users hand in: refused by name, or returned as Python's own.

Python takes True for 1 and leaves "3" to fail far from where it was given; here neither is a
number. Every check says what it refuses in one form: `name: got X, allowed: Y`.
"""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NoReturn

# Training computes in float32, where anything larger is infinite.
LARGEST = (2 - 2**-23) * 2.0**127


def as_python(value: Any) -> Any:
    """What NumPy and JAX hold, as Python's numbers and nested lists; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def _refuse(name: str, value: Any, allowed: str) -> NoReturn:
    raise ValueError(f"{name}: got {value!r}, allowed: {allowed}")


def check_whole(name: str, value: Any, allowed: str, ok: Callable[[Any], bool]) -> int:
    """A whole number of any library as an int; 2.0 is not one, nor is True.

    Args:
        name: how the error names the argument.
        value: what the user handed in.
        allowed: `ok` in words.
        ok: whether a whole number is allowed.

    Raises:
        ValueError: `name: got value, allowed: ...`.
    """
    value = as_python(value)
    if isinstance(value, bool) or not isinstance(value, Integral) or not ok(value):
        _refuse(name, value, allowed)
    return int(value)


def check_number(
    name: str, value: Any, allowed: str, ok: Callable[[Any], bool] = lambda _: True
) -> float:
    """A number that is finite in float32, of any library, as a float; True is not one.

    Args:
        name: how the error names the argument.
        value: what the user handed in.
        allowed: `ok` in words.
        ok: whether a finite number is allowed; default: each is.

    Raises:
        ValueError: `name: got value, allowed: ...`.
    """
    value = as_python(value)
    # A comparison holds for no NaN, and takes whole numbers that are too large for a float.
    finite = isinstance(value, Real) and -LARGEST <= value <= LARGEST
    if isinstance(value, bool) or not finite or not ok(value):
        _refuse(name, value, allowed)
    return float(value)


def check_choice(name: str, value: Any, allowed: str, choices: Sequence[str]) -> str:
    """One of several names.

    Args:
        name: how the error names the argument.
        value: what the user handed in.
        allowed: the names in words.
        choices: the names.

    Raises:
        ValueError: `name: got value, allowed: ...`.
    """
    value = as_python(value)
    if not isinstance(value, str) or value not in choices:
        _refuse(name, value, allowed)
    return value


def check_switch(name: str, value: Any, allowed: str) -> bool:
    """True or False of any library as a bool; 1 and "on" are neither.

    Args:
        name: how the error names the argument.
        value: what the user handed in.
        allowed: the two in words.

    Raises:
        ValueError: `name: got value, allowed: ...`.
    """
    value = as_python(value)
    if not isinstance(value, bool):
        _refuse(name, value, allowed)
    return value


def check_whole_fields(settings: Any, least: Mapping[str, int]) -> None:
    """Whole numbers of a frozen settings class as ints, each from its least to 2^31 - 1.

    Args:
        settings: whose fields are replaced.
        least: by name of the field.

    Raises:
        ValueError: as `check_whole`.
    """
    for name, low in least.items():
        allowed = f"a whole number from {low} to 2^31 - 1"
        value = check_whole(
            name, getattr(settings, name), allowed, lambda v, low=low: low <= v < 2**31
        )
        object.__setattr__(settings, name, value)


def check_number_fields(
    settings: Any, rules: Sequence[tuple[str, str, Callable[[Any], bool]]]
) -> None:
    """Numbers of a frozen settings class as floats.

    Args:
        settings: whose fields are replaced.
        rules: name of the field, what is allowed in words, and whether a number is.

    Raises:
        ValueError: as `check_number`.
    """
    for name, allowed, ok in rules:
        object.__setattr__(settings, name, check_number(name, getattr(settings, name), allowed, ok))
