"""Annotations of saejax are checked while the tests run, and only then."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Little optimised code takes half the time to compile, which is what tests of tiny shapes wait for.
# Commands that tests start in processes of their own do so too, and round alike.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import jaxtyping
import pytest

jaxtyping.install_import_hook("saejax", "helpers.typechecker.check")


@pytest.fixture
def unchecked():
    """Users have no beartype in the way: what it would refuse must reach the library's own
    checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def optimised():
    """A module's programs are compiled as users' are."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
