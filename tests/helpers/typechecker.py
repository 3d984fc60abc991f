"""The checker that conftest puts on the annotations of saejax."""

from beartype import BeartypeConf, beartype

# A whole number is a valid float, as in Python's own typing rules.
_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(f):
    """Functions of modules and classes; to wrap an inner one anew at every call takes long."""
    return f if "<locals>" in getattr(f, "__qualname__", "") else _checked(f)
