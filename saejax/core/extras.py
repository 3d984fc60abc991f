"""Packages of the extras, which not every installation has."""

import importlib
import warnings
from typing import Any


def require(module: str, package: str, what: str, extra: str = "studies") -> Any:
    """A module of a package; an ImportError says that `what` needs it, and how to install it."""
    try:
        # Warnings of a package that loads would seem to be about what is done with it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(f'{what} needs {package}: pip install "saejax[{extra}]"') from error
