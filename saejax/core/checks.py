"""Checks of numbers that users hand in: refused by name, or returned as Python's own.

Python takes True for 1 and leaves "3" to fail far from where it was given; here neither is a
number. Every check raises a ValueError of one form, `name: got value, allowed: ...`. Arguments of
all checks:

    name      how the error names the argument
    value     what the user handed in; NumPy's and JAX's numbers will do
    allowed   what is allowed, in words
    ok        whether a number is allowed
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NoReturn

# Training computes in float32, where anything larger is infinite.
LARGEST = (2 - 2**-23) * 2.0**127

Rule = tuple[str, Callable[[Any], bool]]
# Rules for `check_number_fields`: in words, and as a function.
ABOVE_0: Rule = ("above 0 (a number)", lambda v: v > 0)
FROM_0: Rule = ("0 or more (a number)", lambda v: v >= 0)
BELOW_1: Rule = ("from 0 to below 1 (a number)", lambda v: 0 <= v < 1)
UP_TO_1: Rule = ("above 0, up to 1 (a number)", lambda v: 0 < v <= 1)


def as_python(value: Any) -> Any:
    """What NumPy and JAX hold, as Python's numbers and nested lists; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def _refuse(name: str, value: Any, allowed: str) -> NoReturn:
    raise ValueError(f"{name}: got {value!r}, allowed: {allowed}")


def check_whole(name: str, value: Any, allowed: str, ok: Callable[[Any], bool]) -> int:
    """A whole number as an int; neither 2.0 nor True is one."""
    value = as_python(value)
    if isinstance(value, bool) or not isinstance(value, Integral) or not ok(value):
        _refuse(name, value, allowed)
    return int(value)


def check_number(
    name: str, value: Any, allowed: str, ok: Callable[[Any], bool] = lambda _: True
) -> float:
    """A number that is finite in float32, as a float; True is not one."""
    value = as_python(value)
    # A comparison holds for no NaN, and takes whole numbers that are too large for a float.
    finite = isinstance(value, Real) and -LARGEST <= value <= LARGEST
    if isinstance(value, bool) or not finite or not ok(value):
        _refuse(name, value, allowed)
    return float(value)


def check_choice(name: str, value: Any, allowed: str, choices: Collection[str]) -> str:
    """One of several names."""
    value = as_python(value)
    if not isinstance(value, str) or value not in choices:
        _refuse(name, value, allowed)
    return value


def check_switch(name: str, value: Any, allowed: str = "True or False") -> bool:
    """True or False as a bool; 1 and "on" are neither."""
    value = as_python(value)
    if not isinstance(value, bool):
        _refuse(name, value, allowed)
    return value


def check_whole_fields(settings: Any, least: Mapping[str, int]) -> None:
    """Replaces the fields in `least` of a frozen settings class by ints, from there to 2^31 - 1."""
    for name, low in least.items():
        allowed = f"a whole number from {low} to 2^31 - 1"
        value = getattr(settings, name)
        number = check_whole(name, value, allowed, lambda v, low=low: low <= v < 2**31)
        object.__setattr__(settings, name, number)


def check_number_fields(
    settings: Any, rules: Sequence[tuple[str, str, Callable[[Any], bool]]]
) -> None:
    """Replaces numbers in a frozen settings class by floats: (field, `allowed`, `ok`) of each."""
    for name, allowed, ok in rules:
        object.__setattr__(settings, name, check_number(name, getattr(settings, name), allowed, ok))
