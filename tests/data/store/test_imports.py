"""Arrays of users become a store."""

import ml_dtypes
import numpy as np
import pytest
from helpers.stores import Killed, Machine, data

from saejax.data.store.imports import import_arrays
from saejax.data.store.manifest import read_manifest
from saejax.data.store.reader import Store

# ----------------------------------------------------------------------------------------- imports


def imported(paths, store, **changes):
    fixed = {"model": {"name": "theirs"}, "hook": "resid.6"}
    return import_arrays(paths, store, **(fixed | changes))


def test_arrays_of_users_become_a_store(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 3))
    for k, dtype in enumerate((np.float16, np.float32, np.float64)):
        np.save(tmp_path / f"{k}.npy", x.astype(dtype))
    np.save(tmp_path / "3.npy", np.asfortranarray(x))
    paths = [tmp_path / f"{k}.npy" for k in range(4)]
    store = imported(paths, tmp_path / "s", rows_per_shard=7)
    assert (len(store), store.d) == (80, 3)
    expected = [x.astype(t).astype(np.float32) for t in (np.float16, np.float32, np.float64)]
    expected.append(x.astype(np.float32))
    assert np.array_equal(store.rows(range(80)), np.concatenate(expected))
    assert store.config.model["name"] == "theirs"
    assert store.config.model["files"][0] == {"name": "0.npy", "dtype": "float16", "shape": [20, 3]}


def test_tensors_of_users_become_a_store(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    save_file({"acts": x}, tmp_path / "a.safetensors")
    save_file({"acts": x.astype(ml_dtypes.bfloat16), "w": x}, tmp_path / "b.safetensors")
    store = imported([tmp_path / "a.safetensors"], tmp_path / "s")
    assert np.array_equal(store.rows(range(20)), x)
    both = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    store = imported(both, tmp_path / "t", tensor="acts", dtype="bfloat16")
    rounded = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(store.rows(range(40)), np.concatenate([rounded, rounded]))
    for tensor in (None, "x"):
        message = f"tensor: got {tensor!r}, allowed with .*b.safetensors: acts, w"
        with pytest.raises(ValueError, match=message):
            imported(both[1:], tmp_path / "u", tensor=tensor)
    (tmp_path / "c.safetensors").write_bytes(both[0].read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"c\.safetensors: got a damaged file"):
        imported([tmp_path / "c.safetensors"], tmp_path / "u")
    save_file({"i": np.ones((2, 2), np.int64)}, tmp_path / "d.safetensors")
    with pytest.raises(ValueError, match=r"d\.safetensors: got I64, allowed: bfloat16"):
        imported([tmp_path / "d.safetensors"], tmp_path / "u")
    assert not (tmp_path / "u").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3, np.float32), r"bad\.npy: got shape \(3,\), allowed: \[rows, d\]"),
        (np.zeros((2, 2, 2), np.float32), r"bad\.npy: got shape \(2, 2, 2\)"),
        (np.zeros((0, 2), np.float32), r"bad\.npy: got shape \(0, 2\), .*not empty"),
        (np.zeros((2, 2), np.int32), r"bad\.npy: got int32, allowed: bfloat16, float16"),
        (np.zeros((2, 2), np.complex64), r"bad\.npy: got complex64"),
        (np.zeros((2, 2), object), r"bad\.npy: got a damaged file"),
        (np.zeros((2, 3), np.float32), r"bad\.npy: got d=3, allowed: 2, as .*good\.npy"),
    ],
)
def test_arrays_that_are_no_activations_are_refused_before_anything_is_written(
    tmp_path, array, message
):
    np.save(tmp_path / "good.npy", np.zeros((2, 2), np.float32))
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(ValueError, match=message):
        imported([tmp_path / "good.npy", tmp_path / "bad.npy"], tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_files_of_another_kind_or_absent_are_refused(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"not an array")
    with pytest.raises(ValueError, match=r"a\.npy: got a damaged file"):
        imported([tmp_path / "a.npy"], tmp_path / "s")
    with pytest.raises(ValueError, match=r"a\.pt: got a '.pt' file, allowed: .npy, .safetensors"):
        imported([tmp_path / "a.pt"], tmp_path / "s")
    with pytest.raises(FileNotFoundError, match=r"b\.npy: got no file"):
        imported([tmp_path / "b.npy"], tmp_path / "s")
    with pytest.raises(ValueError, match=r"paths: got \[\], allowed"):
        imported([], tmp_path / "s")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_numbers_that_are_not_finite_are_refused_by_file_and_row(tmp_path, value):
    x = np.zeros((9000, 2))
    x[8500, 1] = value
    np.save(tmp_path / "good.npy", np.zeros((9, 2)))
    np.save(tmp_path / "bad.npy", x)
    with pytest.raises(
        ValueError, match=r"bad\.npy, rows from 8192 on: activations: got .* in row 308"
    ):
        imported([tmp_path / "good.npy", tmp_path / "bad.npy"], tmp_path / "s")
    with pytest.raises(ValueError, match="unfinished"):
        Store.open(tmp_path / "s")


def test_an_interrupted_import_continues_and_other_files_are_refused(tmp_path):
    for k, n in enumerate((5, 20)):
        np.save(tmp_path / f"{k}.npy", data(n)[0])
    np.save(tmp_path / "2.npy", data(21)[0])
    paths = [tmp_path / f"{k}.npy" for k in range(3)]
    whole = imported(paths[:2], tmp_path / "whole", rows_per_shard=4)
    with pytest.MonkeyPatch.context() as patch:
        Machine(30, 10**9, Killed).install(patch)
        with pytest.raises(Killed):
            imported(paths[:2], tmp_path / "cut", rows_per_shard=4)
    assert 5 < read_manifest(tmp_path / "cut").rows < 24
    with pytest.raises(ValueError, match=r"another configuration; model\.files: got"):
        imported([paths[0], paths[2]], tmp_path / "cut", rows_per_shard=4)
    store = imported(paths[:2], tmp_path / "cut", rows_per_shard=4)
    assert store.checksum == whole.checksum
