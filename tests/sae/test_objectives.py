"""Objectives, encoders and decoders of one's own, and constants that cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.one_sae import CONFIG, D_IN, K, X, by_hand, swept, weights

from saejax.sae import relu
from saejax.sae.registry import (
    KINDS,
    BatchTopK,
    Gated,
    JumpReLU,
    Matryoshka,
    ReLU,
    TopK,
    as_architecture,
)


def test_an_objective_takes_the_place_of_the_loss():
    def root(params, x, h, x_hat, l1):
        return jnp.mean((x_hat - x) ** 2) + l1 * jnp.mean(jnp.sqrt(h + 1))

    own, params = ReLU().with_objective("root", root), weights("relu")
    h = relu.encode(params, X, CONFIG)
    x_hat = relu.decode(params, h)
    loss = own.lowered(params, X, swept("relu"), CONFIG)
    np.testing.assert_allclose(loss.total, root(params, X, h, x_hat, 0.1), rtol=1e-6)
    np.testing.assert_allclose(loss.mse, np.mean((x_hat - X) ** 2), rtol=1e-6)
    assert (own.name, own.kind) == ("root", "relu")


def test_objectives_are_told_apart_by_what_they_compute():
    def scaled(factor):
        return lambda params, x, h, x_hat, l1: factor * jnp.mean((x_hat - x) ** 2)

    one, again, other = (ReLU().with_objective("a", scaled(f)).describe() for f in (1.0, 1.0, 2.0))
    assert one == again
    assert one["objective"] != other["objective"]
    assert "objective" not in ReLU().describe()


def test_an_objectives_captured_weights_and_its_own_derivative_tell_it_apart():
    def weighted(value, slope=1.0):
        W = jnp.asarray(np.full(D_IN, value, np.float32))[:2]
        square = jax.custom_jvp(lambda a: a * a)
        square.defjvp(lambda a, d: (a[0] * a[0], slope * a[0] * d[0]))
        inner = jax.jit(lambda error: jnp.mean(square(error) * W))
        return (
            ReLU().with_objective("a", lambda params, x, h, x_hat, l1: inner(x_hat - x)).describe()
        )

    assert weighted(1.0) == weighted(1.0)
    assert weighted(1.0)["objective"] != weighted(0.001)["objective"]
    assert weighted(1.0)["objective"] != weighted(1.0, slope=3.0)["objective"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_coefficient_multiplies_is_told_for_each_sample(kind):
    params, own = weights(kind), KINDS[kind]()
    h = own.encode(params, X, K, CONFIG)
    expected = by_hand(kind, params, X)
    if kind == "jumprelu":
        expected = expected > 0
    elif kind == "gated":
        expected = by_hand("relu", params, X)
    np.testing.assert_allclose(own.penalized(params, X, h, CONFIG), expected.sum(1), rtol=1e-5)


class Doubled(ReLU):
    """An encoder of its own under the name of another."""

    def encode(self, params, x, k=0, config=CONFIG, precision="highest"):
        return 2 * super().encode(params, x, k, config, precision)


class Shifted(TopK):
    """Likewise a decoder."""

    def decode(self, params, h, precision="highest"):
        return super().decode(params, h, precision) + 1


class Named(Doubled):
    """With a name of its own."""

    kind = "doubled"


class Lossy(BatchTopK):
    """Another loss under the encoder's name."""

    def loss(self, *arguments, **more):
        return super().loss(*arguments, **more)


def test_an_encoder_or_decoder_of_ones_own_needs_a_kind_of_its_own():
    for own, kind in ((Doubled(), "relu"), (Shifted(), "topk")):
        with pytest.raises(
            ValueError, match=f"^kind: got '{kind}' of {type(own).__name__}, .*allowed"
        ):
            as_architecture("architecture", own, "")
    for own in (Named(), Lossy(), *(kind() for kind in KINDS.values())):
        assert as_architecture("architecture", own, "") is own


def test_an_objective_may_capture_arrays_of_the_datas_width():
    def weighted(weights):
        return lambda params, x, h, x_hat, l1: jnp.mean(weights * (x_hat - x) ** 2)

    one, other = (ReLU().with_objective("w", weighted(jnp.full(D_IN, w))) for w in (1.0, 2.0))
    assert one.describe(D_IN) != other.describe(D_IN)
    with pytest.raises(ValueError, match=f"objective: fails on inputs of width {D_IN + 1}: "):
        one.describe(D_IN + 1)


@pytest.mark.usefixtures("unchecked")
def test_objectives_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="allowed: one that returns a scalar"):
        ReLU().with_objective("a", lambda params, x, h, x_hat, l1: h)
    for kind in (JumpReLU, Gated, BatchTopK, Matryoshka):
        with pytest.raises(ValueError, match=f"got one for '{kind().name}'"):
            kind().with_objective("a", lambda params, x, h, x_hat, l1: l1)
    with pytest.raises(ValueError, match="got the name '/etc'"):
        ReLU().with_objective("/etc", lambda params, x, h, x_hat, l1: l1)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TopK(aux_k=0), "aux_k: got 0"),
        (lambda: TopK(aux_coefficient=-1), "aux_coefficient: got -1"),
        (lambda: JumpReLU(bandwidth=0), "bandwidth: got 0"),
        (lambda: JumpReLU(initial_threshold=0), "initial_threshold: got 0"),
        (lambda: Matryoshka(prefixes=(0.5,)), "prefixes: got (0.5,)"),
        (lambda: Matryoshka(prefixes=(0.5, 0.5, 1)), "prefixes: got (0.5, 0.5, 1)"),
        (lambda: Matryoshka(prefixes=()), "prefixes: got ()"),
        (lambda: Matryoshka(prefixes=0.5), "prefixes: got 0.5"),
        (lambda: Matryoshka(prefixes=("a", 1)), "prefixes: got 'a'"),
        (lambda: Matryoshka(prefixes="ab"), "prefixes: got 'ab'"),
        (lambda: Matryoshka(prefixes=(0.5, float("nan"), 1)), "prefixes: got nan"),
    ],
)
def test_constants_that_cannot_be_are_refused(make, says):
    with pytest.raises(ValueError, match="allowed") as error:
        make()
    assert str(error.value).startswith(says)
