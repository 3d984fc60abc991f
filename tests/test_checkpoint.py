"""Checkpoints: what is written comes back bit for bit, the newest few, or not at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saejax.checkpoint import Checkpoints

TREE = {
    "weights": [jnp.array([[1.5, -0.0], [jnp.nan, 1e-45]]), jnp.array([3, 4], jnp.uint16)],
    "step": jnp.int32(7),
    "none": None,
}


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three steps saved, two kept."""
    path = tmp_path_factory.mktemp("checkpoints")
    with Checkpoints(path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, TREE | {"step": jnp.int32(step)})
    return path


def test_the_newest_are_kept_and_come_back_bit_for_bit(folder):
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), TREE)
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.steps() == [2, 3]
        newest, older = checkpoints.restore(shapes), checkpoints.restore(TREE, 2)
    assert jax.tree.structure(newest) == jax.tree.structure(TREE)
    assert bits(newest) == bits(TREE | {"step": jnp.int32(3)})
    assert bits(older) == bits(TREE | {"step": jnp.int32(2)})


def test_a_step_that_is_absent_is_named(folder, tmp_path):
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(FileNotFoundError, match=r"step: got 1, allowed in .*: \[2, 3\]"):
            checkpoints.restore(TREE, 1)
        with pytest.raises(ValueError, match=r"step: got 3, allowed: one without a checkpoint"):
            checkpoints.save(3, TREE)
    with Checkpoints(tmp_path) as none, pytest.raises(FileNotFoundError, match="step: got None"):
        none.restore(TREE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"step": jnp.float32(0)},
            r"\['step'\]: got float32\[\], allowed: int32\[\] \(checkpoint at step 3",
        ),
        ({"step": jnp.zeros(2, jnp.int32)}, r"\['step'\]: got int32\[2\], allowed: int32\[\]"),
        ({"more": jnp.zeros(2)}, r"\['more'\]: got float32\[2\], allowed: nothing"),
        ({"weights": [jnp.zeros((2, 2))]}, r"\['weights'\]\[1\]: got nothing, allowed: uint16\[2\]"),
    ],
)
def test_a_tree_of_another_form_names_the_leaf(folder, change, message):
    with Checkpoints(folder) as checkpoints, pytest.raises(ValueError, match=message):
        checkpoints.restore(TREE | change)


def test_a_save_that_fails_leaves_the_one_before(folder):
    with Checkpoints(folder) as checkpoints, pytest.raises((TypeError, ValueError)):
        checkpoints.save(4, {"bad": object()})
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.steps() == [2, 3]


@pytest.mark.parametrize("keep", [0, 1.5, True])
def test_none_kept_is_refused(tmp_path, keep, unchecked):
    with pytest.raises(ValueError, match=r"keep: got .*, allowed: a whole number, 1 or more"):
        Checkpoints(tmp_path, keep)
