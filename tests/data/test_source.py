"""The door for data: what it lets in, what it makes of it, and how it refuses."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from saejax.data.source import FullBatch, Source, as_source, as_sources
from saejax.data.synthetic import recipe
from saejax.data.synthetic.recipe import Synthetic

SPEC = Synthetic(d_in=4, n_features=6, avg_active=1.0)
ROWS = np.random.default_rng(0).normal(size=(12, 4))


def squares(key):
    return jax.random.normal(key, (8, 4)) ** 2


class Ones:
    """A source that a user brings ready made."""

    d_in, n_features, shared = 4, None, None

    def setup(self, key):
        return None

    def features(self, arrays):
        return None

    def sample(self, shared, arrays, key, batch_size):
        return jnp.ones((batch_size, 4))

    def codes(self, shared, arrays, key, batch_size):
        return None

    def describe(self):
        return {"type": "ones"}


# --- what is let in ----------------------------------------------------------------------------


def test_a_source_that_lacks_something_is_told_what():
    class Half(Ones):
        codes = None

    class Quarter:
        d_in, n_features = 4, None

        def sample(self, shared, arrays, key, batch_size):
            return jnp.ones((batch_size, 4))

    with pytest.raises(
        TypeError, match=r"Quarter, .* lacks shared, setup, features, codes, describe"
    ):
        as_source(Quarter(), 8)
    with pytest.raises(TypeError, match=r"Half, .* lacks codes"):
        as_source(Half(), 8)


def test_spec_samples_its_own_ground_truth():
    source, key = as_source(SPEC, 8), jax.random.key(1)
    arrays = source.setup(key)
    t = recipe.truth(SPEC, key)
    assert (source.d_in, source.n_features) == (4, 6)
    np.testing.assert_array_equal(source.features(arrays), t.F)
    got = source.sample(source.shared, arrays, jax.random.key(2), 50)
    np.testing.assert_array_equal(got, recipe.sample(SPEC, t, jax.random.key(2), 50))


@pytest.mark.parametrize("array", [ROWS, ROWS.astype(np.float32), jnp.array(ROWS)])
def test_array_draws_all_of_its_rows_and_only_these(array):
    source = as_source(array, 8)
    assert (source.d_in, source.n_features) == (4, None)
    assert source.features(source.setup(jax.random.key(0))) is None
    x = np.asarray(source.sample(source.shared, None, jax.random.key(1), 3000))
    assert x.dtype == np.float32
    same = (x[:, None] == ROWS.astype(np.float32)).all(-1)
    assert (same.sum(1) == 1).all()
    assert stats.chisquare(same.sum(0)).pvalue > 1e-3


def test_array_of_whole_numbers_becomes_float32():
    source = as_source(np.arange(12).reshape(3, 4), 8)
    np.testing.assert_array_equal(source.shared, np.arange(12.0).reshape(3, 4))
    assert source.shared.dtype == jnp.float32


def test_array_draws_are_decided_by_the_key():
    source = as_source(ROWS, 8)
    a, again, other = (source.sample(source.shared, None, jax.random.key(k), 50) for k in (1, 1, 2))
    np.testing.assert_array_equal(a, again)
    assert (np.asarray(a) != np.asarray(other)).any()


def test_array_reads_the_rows_it_is_handed():
    source = as_source(ROWS, 8)
    x = jax.jit(source.sample, static_argnums=3)(jnp.zeros((2, 4)), None, jax.random.key(0), 3)
    np.testing.assert_array_equal(x, np.zeros((3, 4)))


@pytest.mark.parametrize("seed", [0, 1])
def test_full_batch_is_the_whole_table_in_order_whatever_the_key(seed):
    source = as_source(FullBatch(jnp.array(ROWS)), 12)
    key = jax.random.key(seed)
    arrays = source.setup(key)
    assert (source.d_in, source.n_features, source.features(arrays)) == (4, None, None)
    x = jax.jit(source.sample, static_argnums=3)(source.shared, arrays, key, 12)
    np.testing.assert_array_equal(x, ROWS.astype(np.float32))


def test_full_batch_reads_the_rows_it_is_handed():
    source = as_source(FullBatch(jnp.array(ROWS)), 12)
    handed = jnp.array(ROWS[::-1])
    np.testing.assert_array_equal(source.sample(handed, None, jax.random.key(0), 12), handed)


def test_full_batch_of_numpy_or_of_whole_numbers_becomes_float32(unchecked):
    for array in (
        np.arange(12).reshape(3, 4),
        jnp.arange(12).reshape(3, 4),
        np.arange(12.0).reshape(3, 4),
    ):
        source = as_source(FullBatch(array), 3)
        np.testing.assert_array_equal(source.shared, np.arange(12.0).reshape(3, 4))
        assert source.shared.dtype == jnp.float32


def test_function_is_called_with_the_key():
    source, key = as_source(squares, 8), jax.random.key(7)
    assert (source.d_in, source.n_features) == (4, None)
    x = source.sample(source.shared, source.setup(key), key, 8)
    np.testing.assert_array_equal(x, np.asarray(jax.random.normal(key, (8, 4))) ** 2)


def test_function_batch_becomes_float32():
    source = as_source(lambda key: jax.random.randint(key, (8, 4), 0, 9), 8)
    x = source.sample(None, None, jax.random.key(0), 8)
    assert x.dtype == jnp.float32
    assert np.ptp(np.asarray(x)) > 0


def test_ready_source_passes_through():
    ready = Ones()
    assert isinstance(ready, Source)
    assert as_source(ready, 8) is ready
    assert as_sources({"mine": ready}, 8)["mine"] is ready


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (SPEC, ["uncorrelated"]),
        (Synthetic("correlated"), ["correlated"]),
        (ROWS, ["data"]),
        (squares, ["data"]),
        (Ones(), ["data"]),
        ({"table": FullBatch(jnp.ones((8, 4)))}, ["table"]),
        ({"a": ROWS, "b": squares, "c": Ones()}, ["a", "b", "c"]),
        ({"z": SPEC, "y": SPEC}, ["z", "y"]),
        ({"GPT-2_layer+6.v1": ROWS}, ["GPT-2_layer+6.v1"]),
    ],
)
def test_names_and_their_order(data, names):
    sources = as_sources(data, 8)
    assert list(sources) == names
    assert all(isinstance(s, Source) for s in sources.values())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (SPEC, {"type": "synthetic", "kind": "uncorrelated", "n_features": 6, "avg_active": 1.0}),
        (ROWS, {"type": "array", "rows": 12, "d_in": 4}),
        (FullBatch(jnp.ones((8, 4))), {"type": "full batch", "rows": 8, "d_in": 4}),
        (squares, {"type": "function", "name": "squares", "d_in": 4}),
    ],
)
def test_description_is_json(data, expected):
    described = json.loads(json.dumps(as_source(data, 8).describe()))
    assert expected.items() <= described.items()


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 4), (4, 0)])
def test_array_of_another_shape(shape):
    message = f"data 'mine': got an array of shape {shape}, allowed: [rows, d_in], not empty"
    with pytest.raises(ValueError, match=re.escape(message)):
        as_source(np.zeros(shape), 8, "mine")


@pytest.mark.parametrize("bad", [np.nan, np.inf, "text", None, True])
def test_array_that_is_not_finite_numbers(bad):
    array = np.full((2, 3), bad)
    with pytest.raises(ValueError, match="data 'mine': the array must hold finite numbers only"):
        as_source(array, 8, "mine")


def test_one_bad_number_is_enough():
    array = ROWS.copy()
    array[3, 2] = np.nan
    with pytest.raises(ValueError, match="finite"):
        as_source(array, 8)


@pytest.mark.parametrize("batch_size", [1, 11, 13, 24])
def test_full_batch_of_another_size_than_the_batch(batch_size):
    message = f"batch_size: got {batch_size}, allowed with full batches of 'mine': its 12 rows"
    with pytest.raises(ValueError, match=f"^{message}$"):
        as_source(FullBatch(jnp.array(ROWS)), batch_size, "mine")


@pytest.mark.parametrize("shape", [(), (8,), (8, 3, 4), (0, 4), (8, 0)])
def test_full_batch_of_another_shape(shape, unchecked):
    message = f"data 'mine': got an array of shape {shape}, allowed: [rows, d_in], not empty"
    with pytest.raises(ValueError, match=re.escape(message)):
        as_source(FullBatch(jnp.zeros(shape)), 8, "mine")


@pytest.mark.parametrize("bad", [np.nan, np.inf, True])
def test_full_batch_that_is_not_finite_numbers(bad, unchecked):
    with pytest.raises(ValueError, match="data 'mine': the array must hold finite numbers only"):
        as_source(FullBatch(jnp.full((8, 4), bad)), 8, "mine")


def test_full_batch_of_something_else_is_a_type_error(unchecked):
    message = "data 'mine': got full batches of list, allowed: an array [rows, d_in]"
    with pytest.raises(TypeError, match=re.escape(message)):
        as_source(FullBatch([[1.0, 2.0]]), 1, "mine")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("shape", [(8,), (7, 4), (8, 4, 1), (1, 8)])
def test_function_with_a_batch_of_another_shape(shape):
    with pytest.raises(ValueError, match=re.escape("shape [batch_size=8, d_in]")) as error:
        as_source(lambda key: jnp.zeros(shape), 8, "mine")
    assert f"data 'mine': the function returns an array of shape {shape}" in str(error.value)


@pytest.mark.parametrize("data", [None, 3, "file.npy", [[1.0, 2.0]]])
def test_anything_else_is_a_type_error(data):
    with pytest.raises(TypeError) as error:
        as_source(data, 8, "mine")
    for words in ("data 'mine'", type(data).__name__, "Synthetic", "array", "function", "dict"):
        assert words in str(error.value)


def test_error_in_a_dict_names_its_entry():
    with pytest.raises(ValueError, match="data 'second'"):
        as_sources({"first": ROWS, "second": ROWS[0]}, 8)


def test_empty_dict():
    with pytest.raises(ValueError, match="empty dict, allowed: at least one data set"):
        as_sources({}, 8)


@pytest.mark.parametrize(
    ("other", "attribute", "ours", "theirs"),
    [
        (Synthetic(d_in=5, n_features=6, avg_active=1.0), "d_in", 4, 5),
        (Synthetic(d_in=4, n_features=7, avg_active=1.0), "n_features", 6, 7),
        (ROWS, "n_features", 6, None),
    ],
)
def test_data_sets_of_unequal_sizes(other, attribute, ours, theirs):
    values = f"{{'one': {ours}, 'two': {theirs}}}"
    message = f"data: {attribute} must be the same for all data sets, got {values}"
    with pytest.raises(ValueError, match=re.escape(message)):
        as_sources({"one": SPEC, "two": other}, 8)


@pytest.mark.parametrize("name", ["a/b", "", "two words", "<b>", "..", 1])
def test_names_that_cannot_name_a_file(name):
    with pytest.raises(ValueError, match=r"got the name .* allowed: letters"):
        as_sources({name: SPEC}, 8)


def test_function_with_two_results():
    with pytest.raises(ValueError, match="returns tuple, allowed: one array"):
        as_source(lambda key: (squares(key), 1.0), 8, "pair")


def test_bfloat16_rows_are_numbers():
    source = as_source(jnp.ones((3, 2), jnp.bfloat16), 4)
    assert source.d_in == 2


@pytest.mark.parametrize(
    "bad", [np.full((3, 2), 1e300), np.ones((3, 2)) * 1j, np.ones((3, 2), bool)]
)
def test_numbers_that_float32_cannot_hold(bad):
    with pytest.raises(ValueError, match="finite numbers only"):
        as_source(bad, 4)
