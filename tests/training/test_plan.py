"""What a plan refuses of a user's metrics, and what it says of a user's functions."""

from dataclasses import dataclass

import jax.numpy as jnp
import pytest

from saejax import Settings, Sweep, Synthetic
from saejax.core.precision import Precision
from saejax.sae.registry import Architecture, Loss
from saejax.training.planning import make_plan

DATA = Synthetic(d_in=4, n_features=8, avg_active=1.0)
SETTINGS = Settings(steps=2, batch_size=8, eval_every=2, eval_batches=1)


def plan(metrics=None, **axes):
    return make_plan(Sweep(**{"l1": 0.1, "ratio": 1} | axes), DATA, SETTINGS, metrics)


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        (
            lambda seen: seen.params.threshold + 1.0,
            "metrics: 't' fails for the architecture 'relu': ",
        ),
        (
            lambda seen: seen.params.threshold,
            "metrics: 't' returns None for the architecture 'relu', ",
        ),
    ],
)
@pytest.mark.parametrize("order", [("batchtopk", "relu"), ("relu", "batchtopk")])
def test_a_metric_that_one_architecture_of_the_sweep_has_not_is_refused(metric, says, order):
    with pytest.raises(ValueError, match="architecture 'relu'") as error:
        plan({"t": metric}, architecture=order, k=2)
    assert str(error.value).startswith(says)
    assert plan({"t": metric}, architecture="batchtopk", k=2, l1=None).metrics == {"t": metric}


def test_a_metric_for_one_width_alone_is_refused_beside_another():
    weights = jnp.arange(8.0)

    def metric(seen):
        return (seen.h * weights).mean()

    assert plan({"t": metric}).metrics == {"t": metric}
    with pytest.raises(
        ValueError, match=r"metrics: 't' fails for the architecture 'relu': .*shape"
    ):
        plan({"t": metric}, ratio=(1, 2))


def test_a_metric_is_the_same_at_other_widths_unless_it_holds_arrays_of_theirs():
    def described(metric, **axes):
        return plan({"t": metric}, **axes).describe()["metrics"]["t"]

    def weighted(weights):
        return lambda seen: (seen.h * weights).mean()

    assert described(weighted(2.0), ratio=1) == described(weighted(2.0), ratio=(2, 4))
    assert described(weighted(2.0)) != described(weighted(3.0))
    assert described(weighted(jnp.ones(8))) != described(weighted(2 * jnp.ones(8)))


@dataclass(frozen=True)
class Scaled(Architecture):
    """A ReLU with another penalty."""

    name: str = "scaled"

    def loss(self, params, x, swept, config, precision: Precision = "highest", axis=None):
        loss = super().loss(params, x, swept, config, precision, axis)
        return Loss(loss.total + 0.5 * loss.mse, loss.mse)


def edited(function, body):
    """The class after its author edited a function."""
    return type("Scaled", (Scaled,), {function: body})()


def half(self, params, x, swept, config, precision: Precision = "highest", axis=None):
    loss = Architecture.loss(self, params, x, swept, config, precision, axis)
    return Loss(loss.total + 0.25 * loss.mse, loss.mse)


def wide(self, key, d_in, d_sae, config, center=None):
    params = Architecture.init(self, key, d_in, d_sae, config, center)
    return params._replace(W_enc=2 * params.W_enc)


def test_an_edited_class_of_the_users_own_is_another_architecture():
    first = plan(architecture=Scaled()).describe()["architectures"]["scaled"]
    assert plan(architecture=edited("doc", "")).describe()["architectures"]["scaled"] == first
    for function, body in (
        ("loss", half),
        ("init", wide),
        ("penalized", lambda self, params, x, h, config=None: 2 * h.sum(-1)),
        ("settle", lambda self, params, loss, axis=None: params._replace(b_enc=params.b_enc - 0.1)),
        ("revive", lambda self, params, dead, bias: params._replace(b_enc=params.b_enc * 2)),
    ):
        other = plan(architecture=edited(function, body)).describe()["architectures"]["scaled"]
        assert {n: v for n, v in other.items() if v != first[n]} == {"program": other["program"]}


def test_the_librarys_own_say_their_constants_alone():
    run = plan(architecture=("relu", "topk"), k=2).describe()["architectures"]
    assert not any("program" in own for own in run.values())


def test_what_tells_a_class_apart_does_not_depend_on_the_rest_of_the_sweep():
    small, large = (
        plan(architecture=Scaled(), ratio=ratio, l1=l1).describe()["architectures"]
        for ratio, l1 in ((1, 0.1), ((2, 3), (0.1, 0.2)))
    )
    assert small == large


def test_a_class_whose_functions_fail_is_refused_by_name():
    def fails(self, params, x, swept, config, precision="highest", axis=None):
        return x @ jnp.ones((5, 5))

    with pytest.raises(
        ValueError, match="architecture: got 'scaled', whose functions fail for d_in 4"
    ):
        plan(architecture=edited("loss", fails)).describe()
