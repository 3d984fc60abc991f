"""Writing a store: its files, its rounding, and what is refused."""

import hashlib
import json
import os

import ml_dtypes
import numpy as np
import pytest
from helpers.stores import config, data, files, harvest

from saejax.data.store.reader import Store
from saejax.data.store.writer import StoreWriter

# ----------------------------------------------------------------------------------------- writing


def test_a_store_has_these_files(path):
    names = {"activations", "token_ids", "positions"}
    shards = {f"shard-0000{k}/{name}.npy" for k in range(3) for name in names}
    assert set(files(path)) == {"manifest.json", *shards}
    sizes = [len(np.load(path / f"shard-0000{k}/activations.npy")) for k in range(3)]
    assert sizes == [3, 3, 2]
    manifest = json.loads((path / "manifest.json").read_text())["manifest"]
    assert manifest["config"] == {
        "model": {"seed": 1},
        "hook": "mlp.2",
        "d": 2,
        "dtype": "float32",
        "rows_per_shard": 3,
        "has_tokens": True,
    }
    for k, shard in enumerate(manifest["shards"]):
        for name, entry in shard["files"].items():
            content = (path / f"shard-0000{k}/{name}.npy").read_bytes()
            assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("n", [1, 3, 8, 9])
@pytest.mark.parametrize("at_once", [1, 2, 9])
def test_files_do_not_depend_on_how_rows_were_handed_in(tmp_path, n, at_once):
    a = harvest(tmp_path / "a", n=n, at_once=at_once)
    b = harvest(tmp_path / "b", n=n, at_once=4)
    assert files(a) == files(b)
    x, token_ids, positions = data(n)
    store = Store.open(a, verify=True)
    assert len(store) == n
    assert np.array_equal(store.rows(range(n)), x)
    assert np.array_equal(store.token_ids(range(n)), token_ids)
    assert np.array_equal(store.positions(range(n)), positions)


def test_each_dtype_rounds_as_its_bits_say(tmp_path):
    x = np.array([[1 + 2**-8, 1 + 2**-7], [1 + 2**-11, 60000.0], [-3e-5, 0.0]], np.float32)
    expected = {
        "float32": x,
        "float16": [[1 + 2**-8, 1 + 2**-7], [1.0, 60000.0], [-503 * 2**-24, 0.0]],
        "bfloat16": [[1.0, 1 + 2**-7], [1.0, 59904.0], [-252 * 2**-23, 0.0]],
    }
    for dtype, rounded in expected.items():
        own = config(dtype=dtype, has_tokens=False)
        with StoreWriter(tmp_path / dtype, own) as writer:
            writer.append(x)
            writer.finish()
        store = Store.open(tmp_path / dtype)
        assert store.rows([0, 1, 2]).dtype == np.float32
        assert store.rows([0, 1, 2]).tolist() == np.asarray(rounded).tolist()
        assert store.stored_rows([0]).dtype.name == dtype
        on_disk = np.load(tmp_path / dtype / "shard-00000/activations.npy")
        assert on_disk.dtype == {"bfloat16": np.uint16}.get(dtype, dtype)


def test_bfloat16_rows_of_a_model_are_kept_to_the_bit(tmp_path):
    x = np.array([[0.1, -7.3], [3e38, 1e-38]], ml_dtypes.bfloat16)
    with StoreWriter(tmp_path / "s", config(dtype="bfloat16", has_tokens=False)) as writer:
        writer.append(x)
        writer.finish()
    assert Store.open(tmp_path / "s").stored_rows([0, 1]).tobytes() == x.tobytes()


def test_an_interrupted_harvest_continues_to_the_same_files(tmp_path):
    whole = harvest(tmp_path / "whole")
    path = harvest(tmp_path / "cut", n=7, finish=False)
    assert set(files(path)) == set(files(whole)) - {n for n in files(whole) if "shard-00002" in n}
    with pytest.raises(ValueError, match="unfinished harvest of 6 rows; allowed: a finished one"):
        Store.open(path)
    with StoreWriter(path, config()) as writer:
        assert writer.rows_stored == 6
    assert files(harvest(path)) == files(whole)


def test_a_harvest_of_another_configuration_is_refused_by_what_differs(tmp_path):
    path = harvest(tmp_path / "s", finish=False)
    before = files(path)
    other = config(model={"seed": 2, "name": "x"}, dtype="float16", rows_per_shard=4)
    with pytest.raises(ValueError, match="another configuration; dtype: got 'float16'") as caught:
        StoreWriter(path, other)
    for part in (
        "dtype: got 'float16', allowed: 'float32'",
        "model.seed: got 2, allowed: 1",
        "model.name: got 'x', allowed: 'nothing'",
        "rows_per_shard: got 4, allowed: 3",
    ):
        assert part in str(caught.value)
    assert "hook" not in str(caught.value)
    assert files(path) == before
    with StoreWriter(path, config()) as writer:
        assert writer.rows_stored == 6


def test_a_finished_store_is_not_written_to(path):
    before = files(path)
    with pytest.raises(FileExistsError, match="a finished store of 8 rows; allowed: a folder"):
        StoreWriter(path, config())
    assert files(path) == before


def test_a_folder_of_something_else_stays_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match=r"other files \(thesis.tex\) and no manifest.json"):
        StoreWriter(tmp_path, config())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_second_writer_is_refused_and_a_stale_lock_is_not_in_the_way(tmp_path):
    (tmp_path / ".lock").write_text("123456789")
    with StoreWriter(tmp_path, config()) as writer:
        writer.append(*data(4))
        before = files(tmp_path)
        with pytest.raises(BlockingIOError, match=f"which process {os.getpid()} is writing"):
            StoreWriter(tmp_path, config())
        assert files(tmp_path) == before
    with StoreWriter(tmp_path, config()) as writer:
        assert writer.rows_stored == 3


def test_a_writer_that_is_closed_takes_nothing(tmp_path):
    writer = StoreWriter(tmp_path, config())
    writer.close()
    for call in (lambda: writer.append(*data(1)), writer.finish):
        with pytest.raises(ValueError, match="got a closed writer"):
            call()


def test_a_store_without_rows_cannot_be_finished(tmp_path):
    with StoreWriter(tmp_path, config()) as writer, pytest.raises(ValueError, match="got no row"):
        writer.finish()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activations": np.zeros((2, 3))}, r"activations: got shape \(2, 3\), allowed: .*d=2"),
        ({"activations": np.zeros(2)}, r"activations: got shape \(2,\)"),
        ({"activations": np.array([[0, 1], [np.nan, 2]])}, "activations: got nan in row 1"),
        (
            {"activations": np.array([[0, 1], [2, 7e4]])},
            "got 70000.0 in row 1, .* finite in float16",
        ),
        ({"token_ids": None}, "token_ids: got None, allowed: a number for each of 2 rows"),
        ({"positions": np.zeros(3, int)}, r"positions: got shape \(3,\)"),
        ({"token_ids": np.array([0, 2**31])}, "token_ids: got 0 to 2147483648, allowed: 0 to"),
        ({"positions": np.array([0, -1])}, "positions: got -1 to 0"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_any_is_taken(tmp_path, change, message):
    rows = dict(zip(("activations", "token_ids", "positions"), data(2), strict=True))
    with StoreWriter(tmp_path, config(dtype="float16")) as writer:
        with pytest.raises(ValueError, match=message):
            writer.append(**(rows | change))
        writer.append(**rows)
        writer.finish()
    assert len(Store.open(tmp_path)) == 2


def test_a_store_without_tokens_takes_none(tmp_path):
    with StoreWriter(tmp_path, config(has_tokens=False)) as writer:
        with pytest.raises(ValueError, match="token_ids: got an array, allowed: None"):
            writer.append(*data(2))
        writer.append(data(2)[0])
        writer.finish()
    with pytest.raises(ValueError, match="keeps no token_ids"):
        Store.open(tmp_path).token_ids([0])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "gpt2"}, "model: got 'gpt2', allowed: a dict"),
        ({"model": {"x": float("nan")}}, "model: got .*nan.*, allowed: a dict"),
        ({"model": {"x": object()}}, "model: got"),
        ({"hook": ""}, "hook: got '', allowed: the name"),
        ({"d": 0}, "d: got 0, allowed: a whole number"),
        ({"rows_per_shard": 2.5}, "rows_per_shard: got 2.5"),
        ({"dtype": "int8"}, "dtype: got 'int8', allowed: float32, float16, bfloat16"),
        ({"has_tokens": 1}, "has_tokens: got 1, allowed: True or False"),
    ],
)
def test_configurations_that_make_no_store_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        config(**change)
