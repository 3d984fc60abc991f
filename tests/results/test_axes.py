"""The table of axes: what a row says, and what follows from it."""

import numpy as np
import pytest

from saejax.results.axes import AXES, BY_NAME, SPARSITY, TABLE, TRACED, telling
from saejax.sae.revival import REVIVALS
from saejax.training.cells import Hyper
from saejax.training.sweep import Part, Sweep


def test_what_the_step_reads_follows_the_table():
    names = ("l1", "lr", "resample", "k")
    assert tuple(axis.name for axis in TRACED) == Hyper._fields == Part._fields[1:] == names
    assert SPARSITY == ("l1", "k")
    numbers = BY_NAME["resample"].numbers(REVIVALS)
    np.testing.assert_array_equal(numbers, range(len(REVIVALS)))
    assert numbers.dtype == np.int32
    assert BY_NAME["k"].numbers([1, 3]).dtype == np.float32


def test_axes_that_are_younger_than_the_library_have_the_value_that_runs_had_before():
    assert {a.name: a.before for a in TABLE if a.before is not None} == {
        "architecture": "relu",
        "k": 0,
    }


def test_names_hold_what_is_swept_and_four_axes_always():
    coords = dict.fromkeys(AXES, (1,))
    assert telling(coords) == ("dataset", "seed", "ratio", "l1")
    assert telling(coords | {"lr": (1, 2), "k": (1, 2)}) == (
        *("dataset", "seed", "ratio", "l1"),
        *("lr", "k"),
    )


def test_an_argument_that_is_no_axis_is_refused_as_python_does():
    with pytest.raises(TypeError, match="unexpected keyword argument 'seed'"):
        Sweep(seed=1)


def test_values_for_each_architecture_are_for_axes_that_have_such(unchecked):
    with pytest.raises(ValueError, match=r"lr: got \{'relu': 0.1\}, allowed: a number above 0"):
        Sweep(lr={"relu": 0.1})
