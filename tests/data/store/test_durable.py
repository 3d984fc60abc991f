"""Writers that are killed and disks that are full leave a store that goes on."""

import contextlib
import errno
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from helpers.commands import ROOT
from helpers.stores import Killed, Machine, config, data, files, harvest
from hypothesis import given, settings
from hypothesis import strategies as st

from saejax.data.store.manifest import check_contents, read_manifest
from saejax.data.store.reader import Store
from saejax.data.store.writer import StoreWriter

NUMBERS = count()


@given(st.integers(0, 90), st.integers(0, 9000), st.integers(0, 90))
@settings(max_examples=30, deadline=None)
def test_a_writer_killed_at_any_point_leaves_whole_shards_and_continues(
    folder, whole, operations, n_bytes, again
):
    path = folder / str(next(NUMBERS))
    for stop in (operations, again):
        with pytest.MonkeyPatch.context() as patch:
            Machine(stop, n_bytes, Killed).install(patch)
            with contextlib.suppress(Killed, FileExistsError):
                harvest(path)
        if (path / "manifest.json").exists():
            manifest = read_manifest(path)
            check_contents(path, manifest)
            assert manifest.rows in (0, 3, 6, 8)
            if manifest.complete:
                assert len(Store.open(path, verify=True)) == 8
            else:
                with pytest.raises(ValueError, match="unfinished harvest"):
                    Store.open(path)
    if not (path / "manifest.json").exists() or not read_manifest(path).complete:
        harvest(path)
    assert files(path) == whole


def full_disk():
    return OSError(errno.ENOSPC, "No space left on device")


@given(st.integers(0, 60), st.integers(0, 9000))
@settings(max_examples=30, deadline=None)
def test_a_full_disk_ends_a_harvest_with_the_store_as_it_was_before_the_shard(
    folder, whole, operations, n_bytes
):
    path = folder / str(next(NUMBERS))
    with pytest.MonkeyPatch.context() as patch:
        Machine(operations, n_bytes, full_disk, once=True).install(patch)
        try:
            harvest(path)
        except OSError as error:
            caught = error
        else:
            assert files(path) == whole
            return
    assert caught.errno == errno.ENOSPC
    if (path / "manifest.json").exists():
        manifest = read_manifest(path)
        listed = {name for name, *_ in manifest.files()}
        assert set(files(path)) == {"manifest.json"} | listed
        assert {p.name for p in path.glob("shard*")} == {name.split("/")[0] for name in listed}
        assert f"holds {manifest.rows} rows as before" in str(caught)
        if not manifest.complete:
            harvest(path)
    else:
        assert files(path) == {} if path.exists() else True
        harvest(path)
    assert files(path) == whole


def test_a_full_disk_closes_the_writer_and_frees_the_store(tmp_path, monkeypatch):
    writer = StoreWriter(tmp_path, config())
    Machine(10**9, 200, full_disk, once=True).install(monkeypatch)
    with pytest.raises(OSError, match=r"shard-00000 \(48 bytes\) was not written: No space left"):
        writer.append(*data(3))
    with pytest.raises(ValueError, match="closed writer"):
        writer.append(*data(3))
    with StoreWriter(tmp_path, config()) as other:
        assert other.rows_stored == 0


def test_files_reach_the_disk_before_their_names_do(tmp_path, monkeypatch):
    with StoreWriter(tmp_path, config()) as writer:
        machine = Machine(10**9, 10**9, Killed)
        machine.install(monkeypatch)
        writer.append(*data(3))
    steps = [name for name, _ in machine.log]
    # Three arrays and their folder; the folder's name; the manifest; the manifest's name.
    expected = ["mkdir", *["fsync"] * 4, "rename", "fsync", "fsync", "replace", "fsync"]
    assert steps == expected
    renamed = [Path(file).name for name, file in machine.log if name in ("rename", "replace")]
    assert renamed == ["shard-00000.part", "manifest.json.part"]


LIMITED = """
import os, resource, sys
import numpy as np
from saejax.data.store.manifest import StoreConfig
from saejax.data.store.writer import StoreWriter

own = StoreConfig({"seed": 1}, "mlp.2", 400, rows_per_shard=8, has_tokens=False)
writer = StoreWriter(sys.argv[1], own)
writer.append(np.ones((8, 400), np.float32))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    writer.append(np.ones((8, 400), np.float32))
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
writer = StoreWriter(sys.argv[1], own)
print(writer.rows_stored)
sys.stdout.flush()
os._exit(9)
"""


def test_a_file_size_limit_is_a_full_disk_and_a_dead_writer_does_not_block(tmp_path):
    out = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert out.returncode == 9, out.stderr
    message, stored = out.stdout.splitlines()
    assert "shard-00001 (12800 bytes) was not written: File too large" in message
    assert "holds 8 rows as before" in message
    assert stored == "8"
    assert set(files(tmp_path)) == {"manifest.json", "shard-00000/activations.npy"}
    with StoreWriter(tmp_path, config(d=400, rows_per_shard=8, has_tokens=False)) as writer:
        assert writer.rows_stored == 8
