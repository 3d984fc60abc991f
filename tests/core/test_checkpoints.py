"""Checkpoints: what is written comes back bit for bit, the newest few, or not at all."""

import asyncio
import pickle
import shutil
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from helpers.commands import devices

from saejax.core import checkpoints as module
from saejax.core.checkpoints import Checkpoints

TREE = {
    "weights": [jnp.array([[1.5, -0.0], [jnp.nan, 1e-45]]), jnp.array([3, 4], jnp.uint16)],
    "step": jnp.int32(7),
    "curve": np.array([0.1, np.nan, 5e-324]),
    "count": np.array(2**40),
    "low": jnp.full((2, 3), 1.1, ml_dtypes.bfloat16),
    "empty": jnp.zeros((0, 4)),
    "none": None,
}


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def names(path):
    return sorted(p.name for p in path.iterdir())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three steps saved, two kept."""
    path = tmp_path_factory.mktemp("checkpoints")
    with Checkpoints(path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, TREE | {"step": jnp.int32(step)})
    return path


def test_the_newest_are_kept_and_come_back_bit_for_bit(folder, monkeypatch):
    def never(*_, **__):
        raise AssertionError("something was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, never)

    def like(a):
        return a if isinstance(a, np.ndarray) else jax.ShapeDtypeStruct(a.shape, a.dtype)

    assert names(folder) == ["2", "3"]
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.steps() == [2, 3]
        older = checkpoints.restore(TREE, 2)
        step, newest = checkpoints.newest(lambda step: jax.tree.map(like, TREE))
    assert step == 3
    assert jax.tree.structure(newest) == jax.tree.structure(TREE)
    assert jax.tree.map(type, newest) == jax.tree.map(type, TREE)
    assert jax.tree.map(lambda a: a.dtype, newest) == jax.tree.map(lambda a: a.dtype, TREE)
    assert bits(newest) == bits(TREE | {"step": jnp.int32(3)})
    assert bits(older) == bits(TREE | {"step": jnp.int32(2)})
    # Bound to no device: as those that were there before the run was interrupted.
    assert not any(a.committed for a in jax.tree.leaves(newest) if isinstance(a, jax.Array))


def test_a_folder_without_checkpoints_has_no_newest(tmp_path):
    with Checkpoints(tmp_path / "new" / "checkpoints") as checkpoints:
        assert checkpoints.newest(lambda step: TREE) is None
        assert checkpoints.steps() == []


def test_a_step_that_is_absent_or_not_above_the_newest_is_named(folder):
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(FileNotFoundError, match=r"step: got 1, allowed in .*: \[2, 3\]"):
            checkpoints.restore(TREE, 1)
        for step in (3, 1):
            with pytest.raises(
                ValueError, match=rf"step: got {step}, allowed: above 3, the newest in"
            ):
                checkpoints.save(step, TREE)


def test_a_step_that_is_being_written_counts_as_the_newest(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, {"a": jnp.zeros(2)})
        with pytest.raises(ValueError, match=r"step: got 3, allowed: above 3, the newest in"):
            checkpoints.save(3, {"a": jnp.zeros(2)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"step": jnp.float32(0)},
            r"\['step'\]: got float32\[\], allowed: int32\[\] \(checkpoint at step 3",
        ),
        ({"step": jnp.zeros(2, jnp.int32)}, r"\['step'\]: got int32\[2\], allowed: int32\[\]"),
        ({"more": jnp.zeros(2)}, r"\['more'\]: got float32\[2\], allowed: nothing"),
        (
            {"weights": [jnp.zeros((2, 2))]},
            r"\['weights'\]\[1\]: got nothing, allowed: uint16\[2\]",
        ),
        (
            {"curve": jax.ShapeDtypeStruct((3,), np.float64)},
            r"\['curve'\]: got float64, allowed: of NumPy arrays only",
        ),
    ],
)
def test_a_tree_of_another_form_names_the_leaf(folder, change, message):
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(ValueError, match=message):
            checkpoints.restore(TREE | change, 3)
        with pytest.raises(ValueError, match=message):
            checkpoints.newest(lambda step: TREE | change)
        assert checkpoints.steps() == [2, 3]


@pytest.mark.parametrize(
    ("leaf", "error", "message"),
    [
        (object(), TypeError, r"\['bad'\]: got object, allowed: an array"),
        (1.5, TypeError, r"\['bad'\]: got float, allowed: an array"),
        (
            jnp.zeros(2, jnp.complex64),
            ValueError,
            r"\['bad'\]: got complex64, allowed: bool, or whole",
        ),
        (jax.random.key(0), ValueError, r"\['bad'\]: got key<fry>, allowed: bool, or whole"),
        (np.array(["a"]), ValueError, r"\['bad'\]: got <U1, allowed: bool, or whole"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(folder, leaf, error, message):
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(error, match=message):
            checkpoints.save(4, {"bad": leaf})
        assert checkpoints.steps() == [2, 3]


@pytest.mark.parametrize("keep", [0, 1.5, True])
def test_none_kept_is_refused(tmp_path, keep, unchecked):
    with pytest.raises(ValueError, match=r"keep: got .*, allowed: a whole number, 1 or more"):
        Checkpoints(tmp_path, keep)


@pytest.fixture
def held(monkeypatch):
    """No file is written until it is set."""
    go, kind = threading.Event(), module.ocp.path.atomicity.AtomicRenameTemporaryPath
    create = kind.create

    async def late(self):
        assert await asyncio.to_thread(go.wait, 60)
        return await create(self)

    monkeypatch.setattr(kind, "create", late)
    yield go
    go.set()


def test_arrays_may_be_donated_as_soon_as_save_returns(tmp_path, held):
    advance = jax.jit(lambda a: jax.tree.map(lambda x: x * 1.25 + 1, a), donate_argnums=0)
    state = advance({str(i): jnp.arange(i, 500_000 + i, dtype=jnp.float32) for i in range(4)})
    host = np.arange(100_000.0)
    want = bits(state | {"host": host})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state | {"host": host})
        for _ in range(30):
            state = advance(state)
        host[:] = -1
        jax.block_until_ready(state)
        assert names(tmp_path) == []
        held.set()
        checkpoints.wait()
        assert bits(checkpoints.restore(state | {"host": host}, 1)) == want


def test_an_unfinished_checkpoint_is_none_and_is_removed_at_the_next_start(tmp_path, monkeypatch):
    """Who is killed before the last step of writing, which gives a checkpoint its name."""
    tree, handler, go = (
        {"a": jnp.zeros(1000)},
        module.ocp.StandardCheckpointHandler,
        threading.Event(),
    )
    finalize = handler.finalize

    def late(self, directory):
        assert go.wait(60)
        finalize(self, directory)

    monkeypatch.setattr(handler, "finalize", late)
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(1, tree)
        while not list((tmp_path / "run").rglob("manifest.ocdbt")):
            time.sleep(0.01)
        assert checkpoints.steps() == []
        shutil.copytree(tmp_path / "run", tmp_path / "killed")
        go.set()
    assert names(tmp_path / "run") == ["1"]
    assert names(tmp_path / "killed") != []
    with Checkpoints(tmp_path / "killed") as checkpoints:
        assert names(tmp_path / "killed") == []
        assert checkpoints.newest(lambda step: tree) is None


def test_a_checkpoint_that_is_being_deleted_is_none(tmp_path, monkeypatch):
    """Who is killed while deleting leaves no half of a checkpoint under the name of its step."""
    monkeypatch.setattr(module.shutil, "rmtree", lambda path, **_: None)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"a": jnp.full(3, step)})
        checkpoints.wait()
        assert names(tmp_path) == [".deleted", "2"]
        assert checkpoints.steps() == [2]
    monkeypatch.undo()
    with Checkpoints(tmp_path):
        assert names(tmp_path) == ["2"]


EIGHT = """
import sys, jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from saejax.core.checkpoints import Checkpoints
from saejax.core.fingerprint import fingerprints
mesh = jax.make_mesh((4, 2), ("cells", "batch"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
like = {
    name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(*spec)))
    for name, shape, spec in [
        ("cells", (8, 6), ("cells",)), ("both", (4, 10), ("cells", "batch")), ("all", (3,), ()),
        ("empty", (0, 2), ()),
    ]
} | {"host": np.zeros(3), "loose": jax.ShapeDtypeStruct((5,), jnp.int32)}
with Checkpoints(sys.argv[1]) as checkpoints:
    step, tree = checkpoints.newest(lambda step: like)
    for name in ("cells", "both", "all"):
        assert tree[name].sharding.is_equivalent_to(like[name].sharding, tree[name].ndim), name
    assert not tree["loose"].committed and isinstance(tree["host"], np.ndarray)
    assert fingerprints(tree) == fingerprints({k: np.asarray(v) for k, v in tree.items()})
    checkpoints.save(step + 1, jax.tree.map(lambda a: a * 2, tree))
"""


def test_a_checkpoint_moves_between_one_device_and_eight(tmp_path):
    key = jax.random.key(0)
    tree = {
        "cells": jax.random.normal(key, (8, 6)),
        "both": jax.random.normal(key, (4, 10)),
        "all": jnp.arange(3.0),
        "host": np.linspace(0, 1, 3),
        "loose": jnp.arange(5),
        "empty": jnp.zeros((0, 2)),
    }
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree)
    subprocess.run([sys.executable, "-c", EIGHT, tmp_path], check=True, env=devices(8))
    with Checkpoints(tmp_path) as checkpoints:
        step, found = checkpoints.newest(lambda step: tree)
    assert step == 2
    assert bits(found) == bits(jax.tree.map(lambda a: a * 2, tree))
