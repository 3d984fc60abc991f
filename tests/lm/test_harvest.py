"""Harvested activations are those of the model, in the order of the text."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tiny_lm import POST

from saejax.data.store.manifest import StoreConfig
from saejax.data.store.reader import Store
from saejax.data.store.writer import StoreWriter
from saejax.lm import harvest as harvesting
from saejax.lm.harvest import Packing, harvest
from saejax.lm.model import forward

pytestmark = pytest.mark.usefixtures("pieces")


# ------------------------------------------------------------------------------------------ harvest


def test_harvested_rows_are_the_activations_in_the_order_of_the_text(model, corpus):
    batches = list(harvest(model, corpus.train, corpus.train_documents, POST, batch_size=4))
    n = Packing(12).rows(1000)
    assert (n, len(batches)) == (996, 21)
    x, token_ids, positions, documents = (
        np.concatenate(part) for part in zip(*batches, strict=True)
    )
    windows = jnp.asarray(corpus.train[:996].reshape(83, 12))
    expected = jax.jit(lambda m, w: forward(m, w, (POST,))[1][POST])(model, windows).reshape(
        996, 20
    )
    np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(token_ids, corpus.train[:996])
    np.testing.assert_array_equal(positions, np.tile(np.arange(12), 83))
    np.testing.assert_array_equal(documents, np.repeat([0, 1, 2, 3], [30, 1, 469, 496]))


@pytest.mark.parametrize(("first", "last"), [(0, 996), (48, 100), (50, 51), (95, 97), (990, 996)])
def test_a_harvest_that_starts_later_gives_the_same_rows_bit_for_bit(model, corpus, first, last):
    given = (model, corpus.train, corpus.train_documents, POST)
    whole = [np.concatenate(part) for part in zip(*harvest(*given, batch_size=4), strict=True)]
    part = harvest(*given, batch_size=4, start=first, stop=last)
    for a, b in zip(whole, zip(*part, strict=True), strict=True):
        assert a[first:last].tobytes() == np.concatenate(b).tobytes()


def test_harvests_that_cannot_be_are_refused_at_once(model, corpus):
    given = (model, corpus.train, corpus.train_documents)
    with pytest.raises(ValueError, match=r"hook: got 'mlp', allowed: blocks\.0\.hook_resid_pre"):
        harvest(*given, "mlp")
    with pytest.raises(ValueError, match="start: got 997, allowed: 0 to stop=996"):
        harvest(*given, POST, start=997)
    with pytest.raises(ValueError, match="stop: got 1000, allowed: None or 1 to 996"):
        harvest(*given, POST, stop=1000)
    with pytest.raises(ValueError, match="batch_size: got 0, allowed: a whole number, 1 or more"):
        harvest(*given, POST, batch_size=0)
    with pytest.raises(ValueError, match="tokens: got 11, allowed: context=12 or more"):
        harvest(model, corpus.train[:11], corpus.train_documents, POST)
    assert list(harvest(*given, POST, start=996)) == []


def packed(corpus, packing, n):
    """Token, position and document of the first n rows, window by window, by hand."""
    rows, first = [], 0
    while len(rows) < n:
        window = [] if packing.bos is None else [(packing.bos, first)]
        while len(window) < packing.context:
            window.append((corpus.train[first], first))
            first += 1
        places = [
            (token, position, np.searchsorted(corpus.train_documents, place, side="right") - 1)
            for position, (token, place) in enumerate(window)
        ]
        rows += places[packing.drop_first :]
    return [list(column) for column in zip(*rows[:n], strict=True)]


PACKINGS = [
    Packing(12, 0),
    Packing(12, 63, True),
    Packing(7, None, True),
    Packing(7, 5),
    Packing(7),
]


@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_windows_are_those_made_by_hand(model, corpus, packing):
    batches = harvest(
        model, corpus.train, corpus.train_documents, POST, packing=packing, batch_size=4
    )
    x, *columns = (np.concatenate(part) for part in zip(*batches, strict=True))
    whole = 1000 // (packing.context - (packing.bos is not None))
    kept = packing.context - packing.drop_first
    assert len(x) == packing.rows(1000) == whole * kept
    assert [column.tolist() for column in columns] == packed(corpus, packing, len(x))
    # What the model saw: each window alone, the dropped position included.
    windows = packing.windows(corpus.train, 0, whole)
    assert windows.shape == (whole, packing.context)
    tokens = columns[0].reshape(whole, kept)
    np.testing.assert_array_equal(windows[:, packing.context - kept :], tokens)
    seen = jax.jit(lambda m, w: forward(m, w, (POST,))[1][POST])(model, jnp.asarray(windows))
    expected = seen[:, packing.context - kept :].reshape(len(x), -1)
    np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("packing", PACKINGS[:3])
@pytest.mark.parametrize(("first", "last"), [(0, 300), (47, 50), (121, 122), (90, 200)])
def test_a_packed_harvest_that_starts_later_gives_the_same_rows_bit_for_bit(
    model, corpus, packing, first, last
):
    given = (model, corpus.train, corpus.train_documents, POST)
    take = partial(harvest, *given, packing=packing, batch_size=4)
    whole = [np.concatenate(part) for part in zip(*take(stop=400), strict=True)]
    for a, b in zip(whole, zip(*take(start=first, stop=last), strict=True), strict=True):
        assert a[first:last].tobytes() == np.concatenate(b).tobytes()


@pytest.mark.parametrize("packing", [Packing(12), Packing(12, 0, drop_first=True)])
def test_a_harvest_that_starts_later_shows_the_model_the_same_batches(
    model, corpus, packing, monkeypatch
):
    batches = []

    def read(model, windows, hook):
        batches.append(np.asarray(windows))
        return jnp.zeros((*windows.shape, 20))

    monkeypatch.setattr(harvesting, "_read", read)
    given = (model, corpus.train, corpus.train_documents, POST)
    list(harvest(*given, packing=packing, batch_size=4))
    whole = batches.copy()
    batches.clear()
    list(harvest(*given, packing=packing, batch_size=4, start=170, stop=400))
    first, last = 170 // (4 * packing.kept), -(-400 // (4 * packing.kept))
    np.testing.assert_array_equal(batches, whole[first:last])


def test_contexts_of_a_store_end_where_packed_windows_do(model, corpus, tmp_path):
    packing = Packing(6, 0, drop_first=True)
    config = StoreConfig({"name": "test"}, POST, 20)
    with StoreWriter(tmp_path / "store", config) as writer:
        for rows in harvest(
            model, corpus.train, corpus.train_documents, POST, packing=packing, stop=30
        ):
            writer.append(rows.activations, rows.token_ids, rows.positions)
        writer.finish()
    store = Store.open(tmp_path / "store")
    # Five tokens of the text in a window, at its positions 1 to 5.
    assert store.positions(np.arange(30)).tolist() == [1, 2, 3, 4, 5] * 6
    for row in (0, 4, 5, 7, 29):
        tokens, at = store.context(row, 10, 10)
        start = row // 5 * 5
        assert (tokens.tolist(), at) == (corpus.train[start : start + 5].tolist(), row - start)


def test_a_token_that_the_text_cannot_hold_begins_its_windows():
    windows = Packing(3, 70_000).windows(np.arange(4, dtype=np.uint16), 0, 2)
    assert windows.tolist() == [[70_000, 0, 1], [70_000, 2, 3]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": 0}, "context: got 0, allowed: a whole number, 1 or more"),
        ({"context": 1, "bos": 0}, "context: got 1, allowed: a whole number, 2 or more"),
        ({"context": 1, "drop_first": True}, "context: got 1, allowed: a whole number, 2 or more"),
        ({"bos": -1}, "bos: got -1, allowed: None, or the id of a token"),
        ({"bos": True}, "bos: got True, allowed: None, or the id of a token"),
        ({"drop_first": 1}, "drop_first: got 1, allowed: True or False"),
    ],
)
def test_packings_that_are_none_are_refused(unchecked, change, message):
    with pytest.raises(ValueError, match=message):
        Packing(**{"context": 12, **change})


def test_packings_that_the_model_does_not_fit_are_refused_at_once(model, corpus):
    given = (model, corpus.train, corpus.train_documents, POST)
    with pytest.raises(
        ValueError, match=r"packing\.context: got 13, allowed: up to the model's 12"
    ):
        harvest(*given, packing=Packing(13))
    with pytest.raises(
        ValueError, match=r"packing\.bos: got 64, allowed: below the model's vocab_size=64"
    ):
        harvest(*given, packing=Packing(12, 64))
    with pytest.raises(ValueError, match="stop: got 991, allowed: None or 1 to 990"):
        harvest(*given, packing=Packing(12, 0, True), stop=991)
    with pytest.raises(ValueError, match="tokens: got 10, allowed: context - 1=11 or more"):
        harvest(model, corpus.train[:10], corpus.train_documents, POST, packing=Packing(12, 0))
