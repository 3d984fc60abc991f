"""Checkpoints that went wrong: damaged files, a full disk, a killed writer, one of two
processes."""

import random
import shutil
import socket
import subprocess
import sys
import time
from collections import namedtuple
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.commands import devices

from saejax.core import checkpoints as module
from saejax.core.checkpoints import Checkpoints, DamagedCheckpoint

TREE = {
    "weights": jax.random.normal(jax.random.key(0), (30, 40)),
    "small": jnp.arange(5),
    "host": np.linspace(0, 1, 500),
}
PLENTY = namedtuple("Usage", "total used free")(2**50, 0, 2**50)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def at_step(step):
    return jax.tree.map(lambda a: a * step, TREE)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp("two")
    with Checkpoints(path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, at_step(step))
    return path


@pytest.fixture
def folder(two, tmp_path):
    """A copy of two whole checkpoints."""
    return shutil.copytree(two, tmp_path / "checkpoints")


def files(path):
    return sorted(p for p in path.rglob("*") if p.is_file())


def of_data(path):
    """The file with most of the weights."""
    return max(files(path), key=lambda p: p.stat().st_size)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << at % 8
    path.write_bytes(data)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewrite(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_no_damage_of_any_file_changes_what_comes_back(folder):
    """It is noticed, or was in a part of a file that holds nothing of the arrays."""
    draw, noticed = random.Random(0), 0
    ways = [Path.unlink, halve] + [lambda p: flip(p, draw.randrange(2**20))] * 4
    with Checkpoints(folder) as checkpoints:
        for file in files(folder / "2"):
            for way in ways:
                kept = file.read_bytes()
                way(file)
                try:
                    assert bits(checkpoints.restore(TREE, 2)) == bits(at_step(2)), file
                except DamagedCheckpoint:
                    noticed += 1
                file.write_bytes(kept)
        assert bits(checkpoints.restore(TREE, 2)) == bits(at_step(2))
    assert noticed > 20


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: flip(of_data(path), of_data(path).stat().st_size // 2),
        lambda path: halve(of_data(path)),
        lambda path: of_data(path).unlink(),
        lambda path: shutil.rmtree(path / "arrays"),
        lambda path: [p.unlink() for p in files(path)],
        lambda path: rewrite(path / "_CHECKPOINT_METADATA", "float32[30, 40]", "float32[30, 41]"),
    ],
    ids=["a bit", "cut short", "a file", "the arrays", "all files", "the record"],
)
def test_behind_a_damaged_newest_stands_the_one_before(folder, harm):
    harm(folder / "2")
    with Checkpoints(folder) as checkpoints:
        with pytest.warns(
            UserWarning, match=rf"{folder}/2: the checkpoint of step 2 is damaged \(.+\)"
        ):
            step, tree = checkpoints.newest(lambda step: TREE)
        assert step == 1
        assert bits(tree) == bits(at_step(1))
        assert checkpoints.steps() == [1]
        checkpoints.save(2, at_step(2))
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]


def test_arrays_other_than_those_saved_are_damage_though_the_files_are_sound(folder, tmp_path):
    """Of what a disk or a copy mixes up, orbax's own formats notice nothing."""
    with Checkpoints(tmp_path / "other") as other:
        other.save(2, at_step(2) | {"small": TREE["small"]})
    shutil.rmtree(folder / "2" / "arrays")
    shutil.copytree(tmp_path / "other" / "2" / "arrays", folder / "2" / "arrays")
    with Checkpoints(folder) as checkpoints, pytest.raises(DamagedCheckpoint) as error:
        checkpoints.restore(TREE, 2)
    assert error.value.reason == "['small']: not the bits that were saved"


def test_when_none_is_whole_every_reason_is_told_and_nothing_deleted(folder):
    shutil.rmtree(folder / "1" / "arrays")
    flip(of_data(folder / "2"), 2000)
    message = (
        r"got no whole checkpoint \(step 2: .+; step 1: .+\), allowed: another workdir, or this one"
    )
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(ValueError, match=message) as error:
            checkpoints.newest(lambda step: TREE)
        assert str(folder) in str(error.value)
        assert checkpoints.steps() == [1, 2]


def test_what_says_nothing_about_the_files_is_not_taken_for_damage(folder, monkeypatch):
    def refuse(*_):
        raise PermissionError("not yours")

    monkeypatch.setattr(module, "_read_arrays", refuse)
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(PermissionError, match="not yours"):
            checkpoints.newest(lambda step: TREE)
        assert checkpoints.steps() == [1, 2]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no command `mount`")
    if made.returncode:
        pytest.skip(f"mounting is not permitted: {made.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def noise(step):
    """0.6 MB that cannot be compressed."""
    return {"a": jax.random.bits(jax.random.key(step), (150_000,))}


def save_and_wait(checkpoints, step):
    checkpoints.save(step, noise(step))
    checkpoints.wait()


def test_a_full_disk_ends_with_the_last_good_state(small_disk, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: PLENTY)
    folder = small_disk / "checkpoints"
    message = (
        rf"{folder}: got no checkpoint of step 3 written \(No space left on device\); the newest "
        r"whole one is kept, of step 2"
    )
    with Checkpoints(folder, keep=3) as checkpoints:
        for step in (1, 2):
            save_and_wait(checkpoints, step)
        (small_disk / "other").write_bytes(bytes(400_000))
        with pytest.raises(OSError, match=message):
            save_and_wait(checkpoints, 3)
        # Nothing of the failed write takes room.
        assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]
        (small_disk / "other").unlink()
        checkpoints.save(3, {"a": jnp.arange(3)})
    with Checkpoints(folder, keep=3) as checkpoints:
        assert checkpoints.steps() == [1, 2, 3]
        assert bits(checkpoints.restore(noise(0), 2)) == bits(noise(2))
        assert bits(checkpoints.restore({"a": jnp.arange(3)}, 3)) == bits({"a": jnp.arange(3)})


def test_what_cannot_fit_is_refused_before_it_is_written(folder, monkeypatch):
    size = sum(a.nbytes for a in TREE.values())
    with Checkpoints(folder) as checkpoints:
        monkeypatch.setattr(
            module.shutil, "disk_usage", lambda path: PLENTY._replace(free=size - 1)
        )
        message = (
            rf"{folder}: got no checkpoint of step 3 written \(0.0 MB do not fit into 0.0 MB free\)"
        )
        with pytest.raises(OSError, match=message + r"; the newest whole one is kept, of step 2"):
            checkpoints.save(3, TREE)
        assert checkpoints.steps() == [1, 2]
        monkeypatch.setattr(module.shutil, "disk_usage", lambda path: PLENTY._replace(free=size))
        checkpoints.save(3, TREE)
    assert sorted(p.name for p in folder.iterdir()) == ["2", "3"]


@pytest.fixture
def failing(monkeypatch):
    """The background write fails at its end."""

    def fail(self, directory):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module.ocp.StandardCheckpointHandler, "finalize", fail)


def test_a_write_that_failed_is_told_at_the_next_save_and_at_the_end(tmp_path, failing):
    message = r"got no checkpoint of step 1 written \(.*Input/output error\); none is there"
    with Checkpoints(tmp_path / "a") as checkpoints:
        checkpoints.save(1, {"a": jnp.zeros(3)})
        with pytest.raises(OSError, match=message):
            checkpoints.save(2, {"a": jnp.zeros(3)})
    with pytest.raises(OSError, match=message), Checkpoints(tmp_path / "b") as checkpoints:
        checkpoints.save(1, {"a": jnp.zeros(3)})


def test_the_error_that_ended_a_run_is_not_hidden_by_a_failed_write(tmp_path, failing):
    def run():
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(1, {"a": jnp.zeros(3)})
            raise ZeroDivisionError

    def ends():
        with pytest.raises(ZeroDivisionError):
            run()

    with pytest.warns(UserWarning, match="got no checkpoint of step 1 written"):
        ends()


ENDLESS = """
import sys, itertools, jax.numpy as jnp
from saejax.core.checkpoints import Checkpoints
with Checkpoints(sys.argv[1], keep=2) as checkpoints:
    for step in itertools.count(1):
        checkpoints.save(step, {"a": jnp.full((300, 400), step), "b": jnp.full(7, step)})
"""


def test_a_killed_writer_leaves_whole_checkpoints_only(tmp_path):
    """Three at once, each killed at another moment."""
    folders = [tmp_path / str(i) for i in range(3)]
    writers = [subprocess.Popen([sys.executable, "-c", ENDLESS, str(path)]) for path in folders]
    for path, writer in zip(folders, writers, strict=True):
        while not any(p.name.isdecimal() and p.name != "1" for p in path.glob("*")):
            assert writer.poll() is None
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.2))
        writer.kill()
        writer.wait()
    like = {"a": jnp.zeros((300, 400), jnp.int32), "b": jnp.zeros(7, jnp.int32)}
    for path in folders:
        with Checkpoints(path, keep=2) as checkpoints:
            steps = checkpoints.steps()
            assert sorted(int(p.name) for p in path.iterdir()) == steps
            assert steps
            for step in steps:
                tree = checkpoints.restore(like, step)
                assert bits(tree) == bits(
                    jax.tree.map(lambda a, step=step: jnp.full_like(a, step), like)
                )


TOGETHER = """
import sys, warnings, jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from saejax.core.checkpoints import Checkpoints
port, process, folder = sys.argv[1:]
jax.distributed.initialize(f"localhost:{port}", 2, int(process))
mesh = jax.make_mesh((2,), ("cells",), axis_types=(jax.sharding.AxisType.Auto,))
like = {
    name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
    for name, shape, spec in [("cells", (4, 3000), P("cells")), ("all", (5,), P())]
} | {"host": np.zeros(3)}
advance = jax.jit(lambda a: jax.tree.map(lambda x: x + 1, a), donate_argnums=0)

def values(step):
    return {"cells": step + np.arange(12000.0).reshape(4, 3000), "all": step + np.arange(5.0)}

def spread(name, a):
    return jax.make_array_from_callback(a.shape, like[name].sharding, lambda i: a[i].astype("f4"))

with Checkpoints(folder) as checkpoints:
    found = checkpoints.newest(lambda step: like)
    if found is None:
        state = {name: spread(name, a) for name, a in values(1).items()}
        for step in (1, 2):
            checkpoints.save(step, state | {"host": np.full(3, step / 3)})
            state = advance(state)
    else:
        step, tree = found
        assert step == 1, step
        for name, a in values(1).items():
            for shard in tree[name].addressable_shards:
                np.testing.assert_array_equal(shard.data, a[shard.index])
        np.testing.assert_array_equal(tree["host"], np.full(3, 1 / 3))
"""


def together(folder):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    commands = [
        [sys.executable, "-W", "always", "-c", TOGETHER, port, str(i), str(folder)] for i in (0, 1)
    ]
    start = partial(subprocess.Popen, env=devices(1), stderr=subprocess.PIPE, text=True)
    runs = [start(command) for command in commands]
    errors = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    return errors


def test_two_processes_write_and_pass_over_damage_together(tmp_path):
    """The damage is in the half of one of them."""
    together(tmp_path)
    cells = [p for p in files(tmp_path / "2") if "process_1" in str(p)]
    flip(max(cells, key=lambda p: p.stat().st_size), 3000)
    errors = together(tmp_path)
    assert all("the checkpoint of step 2 is damaged" in text for text in errors)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1"]
