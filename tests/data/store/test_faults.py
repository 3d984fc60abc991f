"""Damaged stores: files cut short, flipped bits and missing shards are named."""

import shutil

import numpy as np
import pytest
from helpers.stores import harvest

from saejax.data.store.manifest import read_manifest
from saejax.data.store.reader import Store

# ------------------------------------------------------------------------------------------ faults

TARGET = "shard-00001/activations.npy"


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def test_a_truncated_file_is_named(path):
    for name in (TARGET, "shard-00002/token_ids.npy"):
        content = (path / name).read_bytes()
        for length in (0, 10, len(content) - 1):
            (path / name).write_bytes(content[:length])
            with pytest.raises(
                ValueError, match=f"{name}: got {length} bytes, allowed: {len(content)}"
            ):
                Store.open(path)
        (path / name).write_bytes(content)
    Store.open(path, verify=True)


def test_a_file_that_grew_is_named(path):
    with (path / TARGET).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=f"{TARGET}: got 153 bytes, allowed: 152 bytes"):
        Store.open(path)


def test_a_missing_file_is_named(path):
    (path / TARGET).unlink()
    with pytest.raises(ValueError, match=f"{TARGET}: got no file, allowed: the 152 bytes"):
        Store.open(path)


def test_a_missing_shard_is_named(path):
    shutil.rmtree(path / "shard-00000")
    with pytest.raises(ValueError, match=r"shard-00000/activations\.npy: got no file"):
        Store.open(path)


@pytest.mark.parametrize("name", ["shard-00003/activations.npy", "shard-00000/gradients.npy"])
def test_an_extra_file_is_named(path, name):
    (path / name).parent.mkdir(exist_ok=True)
    shutil.copy(path / TARGET, path / name)
    with pytest.raises(ValueError, match=f"{name}: got a file that manifest.json does not list"):
        Store.open(path)


@pytest.mark.parametrize(
    ("other", "got"),
    [
        (np.zeros((3, 2), np.int32), r"int32 of shape \(3, 2\)"),
        (np.zeros((2, 3), np.float32), r"float32 of shape \(2, 3\)"),
        (np.zeros((3, 2), ">f4"), r">f4 of shape \(3, 2\)"),
        (np.asfortranarray(np.zeros((3, 2), np.float32)), "by columns"),
    ],
)
def test_an_array_of_another_kind_but_the_same_size_is_named(path, other, got):
    np.save(path / TARGET, other)
    with pytest.raises(ValueError, match=f"{TARGET}: got .*{got}.*, allowed: float32 .*3, 2"):
        Store.open(path)


def test_a_flipped_bit_is_found_all_over_a_file(path):
    size = len((path / TARGET).read_bytes())
    for at in range(0, size, 3):
        flip(path / TARGET, at)
        with pytest.raises(ValueError, match=TARGET):
            Store.open(path, verify=True)
        flip(path / TARGET, at)
    Store.open(path, verify=True)


def test_swapped_shards_are_found_by_their_checksums(path):
    (path / "shard-00000").rename(path / "x")
    (path / "shard-00001").rename(path / "shard-00000")
    (path / "x").rename(path / "shard-00001")
    with pytest.raises(ValueError, match=r"shard-00000/activations.npy: got contents of SHA-256"):
        Store.open(path, verify=True)


def test_a_fault_during_a_harvest_is_found_at_its_end(tmp_path):
    harvest(tmp_path, n=6, finish=False)
    flip(tmp_path / TARGET, 140)
    with pytest.raises(ValueError, match=f"{TARGET}: got contents of SHA-256"):
        harvest(tmp_path)
    with pytest.raises(ValueError, match="unfinished"):
        Store.open(tmp_path)


def test_a_harvest_does_not_go_on_behind_a_damaged_shard(tmp_path):
    harvest(tmp_path, n=6, finish=False)
    (tmp_path / TARGET).write_bytes(b"x")
    with pytest.raises(ValueError, match=f"{TARGET}: got 1 bytes"):
        harvest(tmp_path)


def test_a_folder_without_a_store_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"which holds no manifest\.json"):
        Store.open(tmp_path)


def test_a_flipped_bit_is_found_all_over_the_manifest(path):
    manifest = path / "manifest.json"
    text = manifest.read_bytes()
    for at in range(0, len(text), 11):
        manifest.write_bytes(text[:at] + bytes([text[at] ^ 4]) + text[at + 1 :])
        with pytest.raises(ValueError, match=r"manifest\.json: got"):
            read_manifest(path)


def test_a_manifest_cut_short_is_refused(path):
    text = (path / "manifest.json").read_bytes()
    for length in (0, 1, len(text) // 2, len(text) - 1):
        (path / "manifest.json").write_bytes(text[:length])
        with pytest.raises(ValueError, match=r"manifest\.json: got text cut short"):
            Store.open(path)


def test_another_format_is_refused(path):
    text = (path / "manifest.json").read_text().replace('"format": 1', '"format": 2')
    (path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest.json: got the format 2, allowed: 1"):
        Store.open(path)
