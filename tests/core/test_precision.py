"""Matrix products against float64 NumPy, within the rounding bound of a float32 accumulation."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from saejax.core.precision import PRECISIONS, matmul

K = 300


def operands(batch=()):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(*batch, 5, K)).astype(np.float32)
    b = rng.normal(size=(*batch, K, 7)).astype(np.float32)
    return a, b


def assert_is_float32_product(got, a, b):
    """|error| <= K eps |a| @ |b|, the classic bound for any order of summation."""
    a, b = np.float64(a), np.float64(b)
    assert (np.abs(np.asarray(got) - a @ b) <= K * 2.0**-24 * (np.abs(a) @ np.abs(b))).all()


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_highest_is_the_float32_product(batch):
    a, b = operands(batch)
    assert_is_float32_product(matmul(jnp.array(a), jnp.array(b)), a, b)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_bf16_rounds_operands_and_accumulates_in_float32(batch):
    a, b = operands(batch)
    got = matmul(jnp.array(a), jnp.array(b), "bf16")
    rounded_a, rounded_b = a.astype(ml_dtypes.bfloat16), b.astype(ml_dtypes.bfloat16)
    assert_is_float32_product(got, rounded_a.astype(np.float64), rounded_b.astype(np.float64))


def test_bf16_keeps_a_sum_that_bfloat16_cannot_hold():
    ones = jnp.ones((1, 1001))
    np.testing.assert_array_equal(matmul(ones, ones.T, "bf16"), [[1001.0]])


def test_tf32_on_a_cpu_rounds_operands_to_ten_bits_and_accumulates_in_float32():
    a, b = operands()

    def rounded(x):
        mantissa, exponent = np.frexp(
            x.astype(np.float64)
        )  # in [0.5, 1): the first bit is not stored
        return np.ldexp(np.round(mantissa * 2**11), exponent - 11)

    got = matmul(jnp.array(a), jnp.array(b), "tf32")
    assert_is_float32_product(got, rounded(a), rounded(b))
    assert np.abs(rounded(a) - a).max() > 2e-4


@pytest.mark.parametrize("precision", PRECISIONS)
def test_result_is_float32_also_under_jit(precision):
    a, b = map(jnp.array, operands())
    plain = matmul(a, b, precision)
    compiled = jax.jit(matmul, static_argnums=2)(a, b, precision)
    assert plain.dtype == compiled.dtype == jnp.float32
    np.testing.assert_allclose(compiled, plain, atol=1e-4)
