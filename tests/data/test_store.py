"""A store of activations: what is written is read back, whatever happens in between, in any
order."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from itertools import count, islice
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from saejax.data.host import HostSource
from saejax.data.prefetch import feeds, prefetch
from saejax.data.store import durable
from saejax.data.store.imports import import_arrays
from saejax.data.store.manifest import StoreConfig, check_contents, read_manifest
from saejax.data.store.reader import Store
from saejax.data.store.shuffle import Permutation, shuffled
from saejax.data.store.source import StoreSource
from saejax.data.store.writer import StoreWriter

ROOT = Path(__file__).resolve().parents[2]


def config(**changes):
    return StoreConfig(
        **{"model": {"seed": 1}, "hook": "mlp.2", "d": 2, "rows_per_shard": 3} | changes
    )


def data(n, d=2):
    """Rows that tell their number, and sequences of five tokens."""
    x = np.arange(n * d, dtype=np.float32).reshape(n, d)
    return x, np.arange(n) + 100, np.arange(n) % 5


def harvest(path, n=8, at_once=2, own=None, finish=True):
    """Writes a store, or goes on with one that was interrupted."""
    own = own or config()
    arrays = data(n, own.d) if own.has_tokens else data(n, own.d)[:1]
    with StoreWriter(path, own) as writer:
        for start in range(writer.rows_stored, n, at_once):
            writer.append(*(a[start : start + at_once] for a in arrays))
        if finish:
            writer.finish()
    return path


def files(path):
    return {
        p.relative_to(path).as_posix(): p.read_bytes()
        for p in sorted(path.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


NUMBERS = count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """For the examples of one test, which all share its `tmp_path`."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture
def path(tmp_path):
    """A finished store of eight rows in shards of three."""
    return harvest(tmp_path / "store")


# ------------------------------------------------------------------------------------------- order


@given(st.integers(1, 3000), st.lists(st.integers(0, 2**32 - 1), max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_shuffled_order_holds_every_row_once(n, key):
    assert np.array_equal(np.sort(Permutation(n, *key)(np.arange(n))), np.arange(n))


@given(st.integers(2**33, 2**62), st.integers(0, 2**32 - 1), st.integers(0, 2**62))
@settings(max_examples=40, deadline=None)
def test_rows_beyond_32_bits_are_ordered_without_a_table(n, key, start):
    places = (start + np.arange(200)) % n
    rows = Permutation(n, key)(places)
    assert rows.min() >= 0
    assert rows.max() < n
    assert len(set(rows.tolist())) == 200
    assert Permutation(n, key)(places[[7]])[0] == rows[7]


def test_every_order_of_four_rows_is_equally_likely():
    orders = {order: i for i, order in enumerate(itertools.permutations(range(4)))}
    seen = [orders[tuple(Permutation(4, 1, s, 0)(np.arange(4)).tolist())] for s in range(720)]
    assert chisquare(np.bincount(seen, minlength=24)).pvalue > 0.001


def test_every_row_comes_to_every_place_equally_often():
    n, times = 40, 500
    counts = np.zeros((n, n))
    for seed in range(times):
        counts[np.arange(n), Permutation(n, 1, seed, 0)(np.arange(n))] += 1
    statistic = ((counts - times / n) ** 2 / (times / n)).sum()
    freedom = (n - 1) ** 2
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


def test_neighbours_do_not_stay_together():
    rows = Permutation(100_003, 1, 0, 0)(np.arange(100_003))
    assert abs(np.corrcoef(rows[1:], rows[:-1])[0, 1]) < 4 / 100_003**0.5
    near = (np.abs(np.diff(rows)) < 1000).mean()
    assert near == pytest.approx(0.02, abs=0.002)


def test_the_order_is_the_same_in_every_version():
    assert Permutation(10, 1, 2, 3)(np.arange(10)).tolist() == [5, 8, 6, 1, 4, 3, 2, 7, 9, 0]
    far = [974324556334, 438411395640, 889537329050]
    assert Permutation(10**12, 5)(np.arange(3)).tolist() == far


@pytest.mark.parametrize(("n", "key"), [(1, (0,)), (2, (1,)), (7, (3, 4)), (1000, (1, 0, 9))])
def test_the_order_is_a_feistel_network_walked_into_the_rows(n, key):
    bits = max(2, (n - 1).bit_length())
    low, high = bits - bits // 2, bits // 2
    keys = np.random.SeedSequence(key).generate_state(max(8, 64 // bits), np.uint64).tolist()

    def mixed(x, k, width):
        x = (x + k) * 0xBF58476D1CE4E5B9 % 2**64
        return ((x ^ x >> 32) * 0x94D049BB133111EB % 2**64) >> (64 - width)

    def walked(x):
        left, right = divmod(x, 2**low)
        for turn, k in enumerate(keys):
            if turn % 2:
                right ^= mixed(left, k, low)
            else:
                left ^= mixed(right, k, high)
        x = left * 2**low + right
        return x if x < n else walked(x)

    assert Permutation(n, *key)(np.arange(n)).tolist() == [walked(x) for x in range(n)]


def test_an_epoch_holds_every_row_once_and_no_two_are_alike():
    stream = shuffled(11, 3, 0, 44).reshape(4, 11)
    assert (np.sort(stream, axis=1) == np.arange(11)).all()
    assert len({tuple(epoch) for epoch in stream.tolist()}) == 4
    assert shuffled(11, 0, 11, 22).tolist() != shuffled(11, 1, 0, 11).tolist()


@given(st.integers(3, 20), st.integers(0, 60), st.integers(1, 50))
@settings(max_examples=25, deadline=None)
def test_any_part_of_the_stream_can_be_asked_for(n, start, length):
    whole = shuffled(n, 5, 0, start + length)
    assert np.array_equal(shuffled(n, 5, start, start + length), whole[start:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Permutation(0), "n: got 0, allowed: from 1"),
        (lambda: Permutation(3, 2**32), "key: got 4294967296, allowed: a whole"),
        (lambda: Permutation(3, 1, 2, 3, 4, 5), "key: got 5 numbers, allowed: up to 4"),
        (lambda: shuffled(3, 0, 2, 2), "stop: got 2, allowed: above start=2"),
        (lambda: shuffled(3, 0, -1, 2), "start: got -1, allowed: 0 or more"),
        (lambda: shuffled(3, -1, 0, 2), "key: got -1, allowed"),
    ],
)
def test_orders_that_do_not_exist_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("place", [-1, 5])
def test_a_place_outside_the_order_is_refused(place):
    with pytest.raises(IndexError, match="places: got"):
        Permutation(5)(np.array([0, place]))


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


# ---------------------------------------------------------------------- interruptions, full disks


class Killed(BaseException):
    """The process is gone: nothing that it would still do happens."""


class Machine:
    """A disk on which a number of operations and of bytes succeed; then `fault` for each that
    follows.

    A write that is cut off leaves the bytes before the cut.
    """

    def __init__(self, operations, n_bytes, fault, once=False):
        self.operations, self.bytes, self.fault, self.once = operations, n_bytes, fault, once
        self.log = []

    def spend(self):
        if self.operations == 0:
            self.operations = -1
            if self.once:
                self.operations = 10**9
            raise self.fault()
        self.operations -= self.operations > 0
        if self.operations < 0:
            raise self.fault()

    def wrap(self, name, function):
        def call(*args, **kwargs):
            self.spend()
            self.log.append((name, str(args[0])))
            return function(*args, **kwargs)

        return call

    def open(self, *args, **kwargs):
        file = open(*args, **kwargs)  # noqa: SIM115
        if args[1] == "wb":
            file = Cut(file, self)
        return file

    def install(self, patch):
        for name in ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir"):
            patch.setattr(os, name, self.wrap(name, getattr(os, name)))
        patch.setattr(durable, "open", self.open, raising=False)


class Cut:
    """A file of a machine."""

    def __init__(self, file, machine):
        self.file, self.machine = file, machine

    def write(self, part):
        take = min(len(part), self.machine.bytes)
        self.machine.bytes -= take
        self.file.write(bytes(part)[:take])
        if take < len(part):
            self.machine.operations = 10**9 if self.machine.once else 0
            self.machine.bytes = 10**9 if self.machine.once else 0
            raise self.machine.fault()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return files(harvest(tmp_path_factory.mktemp("whole")))


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


# ----------------------------------------------------------------------------------------- reading


@given(st.integers(1, 12), st.lists(st.integers(0, 9), max_size=30))
@settings(max_examples=40, deadline=None)
def test_rows_come_in_the_order_asked_for_whatever_the_shards(folder, per_shard, indices):
    path = folder / f"by-{per_shard}"
    if not path.exists():
        harvest(path, n=10, own=config(rows_per_shard=per_shard))
    x, token_ids, positions = data(10)
    store = Store.open(path)
    at = np.array(indices, int)
    assert np.array_equal(store.rows(indices), x[at])
    assert np.array_equal(store.token_ids(at), token_ids[at])
    assert np.array_equal(store.positions(at), positions[at])


@pytest.mark.parametrize("indices", [[-1], [0, 8]])
def test_a_row_outside_the_store_is_refused(path, indices):
    with pytest.raises(IndexError, match=r"indices: got .*, allowed: 0 to 7, the rows of"):
        Store.open(path).rows(indices)


def test_the_mean_is_summed_in_float64_and_does_not_depend_on_the_shards(tmp_path):
    x = np.random.default_rng(0).normal(1e4, 1, (9000, 3)).astype(np.float32)
    means = []
    for per_shard in (700, 8192):
        own = config(d=3, rows_per_shard=per_shard, has_tokens=False)
        with StoreWriter(tmp_path / str(per_shard), own) as writer:
            writer.append(x)
            writer.finish()
        means.append(Store.open(tmp_path / str(per_shard)).mean())
    assert means[0].dtype == np.float64
    assert means[0].tobytes() == means[1].tobytes()
    np.testing.assert_allclose(means[0], x.astype(np.float64).mean(0), rtol=1e-13)


def test_contexts_end_where_their_sequence_does(path):
    store = Store.open(path)
    # Sequences are rows 0-4 (tokens 100-104) and 5-7 (tokens 105-107).
    for row, before, after, tokens, at in (
        (2, 1, 1, [101, 102, 103], 1),
        (4, 2, 9, [102, 103, 104], 2),
        (5, 9, 1, [105, 106], 0),
        (7, 9, 9, [105, 106, 107], 2),
        (0, 0, 0, [100], 0),
    ):
        found, place = store.context(row, before, after)
        assert (found.tolist(), place) == (tokens, at)
    with pytest.raises(IndexError, match="got 8 to 8"):
        store.context(8, 1, 1)


def test_reading_and_training_hold_a_small_part_of_a_store(tmp_path):
    n, d = 65536, 64
    with StoreWriter(tmp_path, config(d=d, rows_per_shard=8192, has_tokens=False)) as writer:
        for _ in range(n // 8192):
            writer.append(np.ones((8192, d), np.float32))
        writer.finish()
    tracemalloc.start()
    store = Store.open(tmp_path)
    store.mean()
    batches = StoreSource(store).batches(0, 512)
    for _ in range(20):
        next(batches)
    batches.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n * d * 4 == 16 * 2**20
    assert peak < 4 * 2**20


def test_equal_data_have_equal_checksums(tmp_path):
    a, b = (Store.open(harvest(tmp_path / name)) for name in "ab")
    c = Store.open(harvest(tmp_path / "c", n=7))
    d = Store.open(harvest(tmp_path / "d", own=config(hook="mlp.3")))
    assert a.checksum == b.checksum
    assert len({a.checksum, c.checksum, d.checksum}) == 3


# ----------------------------------------------------------------------------------------- batches


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = harvest(tmp_path_factory.mktemp("source"), n=50, own=config(rows_per_shard=16))
    return StoreSource(Store.open(path), held_out=0.2)


def numbers(x):
    """Which rows of `data` these are."""
    return np.asarray(x)[..., 0].astype(int) // 2


def test_every_row_is_trained_on_once_an_epoch_and_held_out_rows_never(source):
    assert (source.n_train, source.n_held_out) == (40, 10)
    held_out = set(numbers(source.evaluation(2, 5)).ravel().tolist())
    assert len(held_out) == 10
    for seed in (0, 1):
        rows = numbers(list(islice(source.batches(seed, 16), 10))).reshape(4, 40)
        for epoch in rows:
            assert set(epoch.tolist()) == set(range(50)) - held_out


def test_seeds_and_epochs_have_orders_of_their_own(source):
    orders = [source.train_rows(s, k * 10, 10, 4).ravel().tolist() for s in (0, 1) for k in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_batches_do_not_depend_on_the_size_of_the_shards(tmp_path):
    batches = []
    for per_shard in (2, 7, 64):
        path = harvest(tmp_path / str(per_shard), n=20, own=config(rows_per_shard=per_shard))
        source = StoreSource(Store.open(path))
        batches.append([*islice(source.batches(3, 9), 5), source.evaluation(1, 1)[0]])
    for other in batches[1:]:
        for a, b in zip(batches[0], other, strict=True):
            assert np.array_equal(a, b)


def test_a_resumed_run_sees_the_batches_it_would_have_seen(source):
    through = list(islice(source.batches(1, 16), 9))
    resumed = list(islice(source.batches(1, 16, start_step=4), 5))
    assert all(np.array_equal(a, b) for a, b in zip(through[4:], resumed, strict=True))


def test_a_chunk_is_fed_the_batches_of_its_steps(source):
    through = np.stack(list(islice(source.batches(1, 16), 9)))
    assert np.array_equal(source.feed(1, 3, 6, 16), through[3:])
    assert isinstance(source, HostSource)


def test_feeds_bring_each_chunk_to_the_device(source):
    chunks = list(feeds({"lm": source}, (0, 7), range(0, 12, 4), n_batches=2, batch_size=5))
    assert len(chunks) == 3
    for k, chunk in enumerate(chunks):
        fed = chunk["lm"]
        assert fed.batches.shape == (2, 4, 5, 2)
        for i in range(4):
            step = jnp.int32(4 * k + i)
            expected = np.stack([source.batch(seed, 4 * k + i, 5) for seed in (0, 7)])
            assert np.array_equal(fed.draw("batches", step), expected)
            assert np.array_equal(
                fed.draw("evaluation", step), np.stack([source.evaluation(2, 5)] * 2)
            )


def test_batches_of_16_bit_stores_reach_the_device_as_they_lie_and_are_used_in_float32(tmp_path):
    path = harvest(tmp_path / "s", n=20, own=config(dtype="bfloat16"))
    source = StoreSource(Store.open(path))
    (chunk,) = feeds({"lm": source}, (0,), range(0, 2, 2), n_batches=1, batch_size=1)
    fed = chunk["lm"]
    assert fed.batches.dtype == jnp.bfloat16
    drawn = fed.draw("batches", jnp.int32(1))
    assert drawn.dtype == jnp.float32
    assert np.array_equal(drawn[0], source.batch(0, 1, 1))


def test_a_source_says_what_it_is(source):
    assert source.describe() == {
        "type": "store",
        "model": {"seed": 1},
        "hook": "mlp.2",
        "d_in": 2,
        "dtype": "float32",
        "rows": 50,
        "held_out": 0.2,
        "checksum": source.store.checksum,
    }
    json.dumps(source.describe())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: StoreSource(s.store, 1.0), "held_out: got 1.0, allowed: a share from 0"),
        (lambda s: StoreSource(s.store, 0.999), "held_out: got 0.999, allowed: .*leaves rows"),
        (
            lambda s: s.evaluation(1, 11),
            r"held-out rows: got 11, allowed: up to 10, .*held_out=0.2",
        ),
        (lambda s: s.batches(0, 41), "batch_size: got 41, allowed: 1 to 40"),
        (lambda s: s.batches(0, 4, start_step=-1), "step: got -1, allowed: 0 or more"),
        (lambda s: s.batches(-1, 4), "key: got -1"),
        (lambda s: s.feed(0, 0, 0, 4), "n_steps: got 0, allowed"),
    ],
)
def test_batches_that_cannot_be_drawn_are_refused_at_once(source, call, message):
    with pytest.raises(ValueError, match=message):
        call(source)


# ---------------------------------------------------------------------------------------- prefetch


def workers():
    return [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_work_is_done_ahead_in_order_by_another_thread_and_no_further():
    begun, gate = [], threading.Semaphore(0)

    def work(i):
        begun.append((i, threading.current_thread().name))
        gate.release()
        return i * i

    results = prefetch(work, count(), ahead=3)
    assert next(results) == 0
    for _ in range(4):
        assert gate.acquire(timeout=5)
    assert [i for i, _ in begun] == [0, 1, 2, 3]
    assert all(name.startswith("prefetch") for _, name in begun)
    assert list(islice(results, 4)) == [1, 4, 9, 16]
    results.close()
    assert not workers()
    assert list(prefetch(work, range(3))) == [0, 1, 4]
    assert not workers()


def test_an_error_of_the_thread_is_raised_at_its_turn():
    results = prefetch(lambda i: 6 // (2 - i), count())
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not workers()


def test_a_dropped_iterator_ends_its_thread(source):
    batches = source.batches(0, 4)
    next(batches)
    assert workers()
    del batches
    assert not workers()


def test_prefetch_without_room_is_refused():
    with pytest.raises(ValueError, match="ahead: got 0, allowed: 1 or more"):
        prefetch(str, [1], ahead=0)


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
