"""What tells two functions apart: programs, captured arrays at any depth, derivatives by hand."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saejax.core.program_hash import program

X = jax.ShapeDtypeStruct((3,), jnp.float32)


def array(value):
    """An array from outside: made while a function is traced it would be part of the program."""
    return jnp.asarray(np.full(3, value, np.float32))


def inside_jit(value):
    W = array(value)
    return jax.jit(lambda x: (x * W).sum())


def deep(value):
    return jax.jit(lambda x: jax.jit(inside_jit(value))(x))


def inside_scan(value):
    total = inside_jit(value)
    return lambda x: jax.lax.scan(lambda carry, y: (carry + y * total(x), None), 0.0, x)[0]


def inside_cond(value):
    total = inside_jit(value)
    return lambda x: jax.lax.cond(x[0] > 0, total, jnp.sum, x)


def inside_checkpoint(value):
    return jax.checkpoint(inside_jit(value))


def inside_custom(value):
    function = jax.custom_vjp(inside_jit(value))
    function.defvjp(lambda x: (x.sum(), None), lambda _, g: (jnp.full(3, g),))
    return function


def plain(value):
    W = array(value)
    return lambda x: (x * W).sum()


def inside_key(value):
    key = jax.random.key(int(1000 * value))
    return jax.jit(lambda x: jax.random.normal(key, x.shape) * x)


NESTS = [
    plain,
    inside_jit,
    deep,
    inside_scan,
    inside_cond,
    inside_checkpoint,
    inside_custom,
    inside_key,
]


@pytest.mark.parametrize("make", NESTS)
def test_a_captured_array_tells_functions_apart_at_any_depth(make):
    one, again, other = (program(make(value), X) for value in (1.0, 1.0, 0.001))
    assert one == again
    assert one != other


def by_hand(factor, forward=jnp.sum):
    """A function whose value says nothing of its gradient."""
    scale = array(factor)
    function = jax.custom_vjp(lambda x: forward(x))
    function.defvjp(lambda x: (forward(x), x), lambda x, g: (jax.jit(lambda a: a * scale)(g * x),))
    return jax.jit(function)


def by_jvp(factor):
    scale = array(factor)
    function = jax.custom_jvp(lambda x: x.sum())
    function.defjvp(lambda x, d: (x[0].sum(), (scale * d[0]).sum()))
    return function


@pytest.mark.parametrize("make", [by_hand, by_jvp])
def test_of_what_is_trained_a_derivative_by_hand_counts(make):
    one, again, other = (program(make(factor), X, trained=True) for factor in (1.0, 1.0, 2.0))
    assert one == again
    assert one != other
    assert program(make(1.0), X) == program(make(2.0), X)


@pytest.mark.parametrize("trained", [False, True])
def test_a_function_without_inner_parts_is_what_it_was_in_older_workdirs(trained):
    function = plain(0.5)
    traced = jax.make_jaxpr(function)(X)
    text = str(traced.jaxpr).encode()
    before = hashlib.sha256(text + np.full(3, 0.5, np.float32).tobytes()).hexdigest()
    assert program(function, X, trained=trained) == before
