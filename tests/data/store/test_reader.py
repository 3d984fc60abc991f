"""Reading a store in any order, and the batches that training draws from it."""

import json
import threading
import tracemalloc
from itertools import count, islice

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.stores import config, data, harvest
from hypothesis import given, settings
from hypothesis import strategies as st

from saejax.data.host import HostSource
from saejax.data.prefetch import feeds, prefetch
from saejax.data.store.reader import Store
from saejax.data.store.source import StoreSource
from saejax.data.store.writer import StoreWriter

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
