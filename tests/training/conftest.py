"""What the tests of whole runs share."""

import io
from contextlib import redirect_stderr

import jax
import numpy as np
import pytest
from helpers.tiny_runs import PLAIN, TWO_L1, batch_of, quiet


@pytest.fixture(scope="module")
def recorded():
    """A run on a function, and every batch that it asked for."""
    seen = []

    def function(key):
        x = batch_of(key)
        jax.debug.callback(lambda a: seen.append(np.array(a)), x)
        return x

    text = io.StringIO()
    with redirect_stderr(text):
        result = quiet(TWO_L1, function, PLAIN)
    jax.effects_barrier()
    return result, seen, text.getvalue()
