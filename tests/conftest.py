"""Annotations of saejax are checked while the tests run, and only then."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jaxtyping
import pytest

jaxtyping.install_import_hook("saejax", "typechecker.check")


@pytest.fixture
def unchecked():
    """Users have no beartype in the way: what it would refuse must reach the library's own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
