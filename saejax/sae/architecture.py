"""What an architecture is: pure functions of one SAE, and how its dead latents are revived.

A sweep trains cells of several architectures side by side. The engine asks each for

    init    fresh weights
    encode  activations once training is over
    decode  reconstructions
    loss    what training lowers, on one batch

and everything else (Adam, unit rows, freezing, snapshots, metrics, export) is the engine's. The
base class is the ReLU with an L1 penalty; the others override what their papers do differently.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from saejax.core.precision import Precision
from saejax.core.program_hash import program
from saejax.sae import relu
from saejax.sae.params import (
    STANDARD,
    Center,
    Inputs,
    Latents,
    Mask,
    Params,
    PerLatent,
    SAEConfig,
    Scalar,
    init,
)

Objective = Callable[..., Scalar]
Self = TypeVar("Self", bound="Architecture")


class Untraceable(ValueError):
    """An objective that fails on inputs of some width."""


class Swept(NamedTuple):
    """What a loss reads: l1, the coefficient of the sparsity term, or k, a sample's active latents.

    The other one is 0.
    """

    l1: Scalar
    k: Scalar


class Loss(NamedTuple):
    """What `Architecture.loss` returns.

    Attributes:
        total: what training lowers.
        mse: mean over batch and d_in of (x_hat - x)^2; an update where it is not finite is refused.
        highest: each latent's largest activation in the batch, None where only a ReLU tells.
        least: smallest activation above 0, where the architecture learns a threshold from it.
    """

    total: Scalar
    mse: Scalar
    highest: PerLatent | None = None
    least: Scalar | None = None


@dataclass(frozen=True)
class Architecture:
    """The ReLU with an L1 penalty: `saejax.sae.params`, and the base of every other architecture.

    Args:
        name: value of the axis `architecture`; two of one class in a sweep need two names.
        objective: what training lowers instead of the architecture's own loss, see
            `with_objective`.

    Raises:
        ValueError: for a name that cannot be part of a file's.

    Attributes:
        kind: how its trained SAEs encode, the key in `saejax.sae.registry.KINDS`.
        extra: fields of `Params` that its SAEs have beside W_enc, b_enc, W_dec and b_dec.
        reads: which axis sets its sparsity, "l1" or "k".
        revivals: values of the axis `resample` that it knows.
        takes_objective: whether a user's objective has a gradient for all of its weights.
        temporaries: arrays [batch, d_sae] and [d_in, d_sae] that a step holds beyond a ReLU's, for
            the estimate of memory.
        source: where its equations are from.
    """

    name: str = "relu"
    objective: Objective | None = field(default=None, repr=False)

    kind: ClassVar[str] = "relu"
    extra: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[str] = "l1"
    revivals: ClassVar[tuple[str, ...]] = ("off", "on", "anthropic", "ghost")
    takes_objective: ClassVar[bool] = True
    temporaries: ClassVar[tuple[int, int]] = (0, 0)
    source: ClassVar[str] = (
        "Cunningham et al. (2023), Sparse autoencoders find highly interpretable features in "
        "language models; Bricken et al. (2023), Towards monosemanticity"
    )

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"\w[\w.+-]*", self.name):
            raise ValueError(
                f"architecture: got the name {self.name!r}, allowed: letters, digits, _ and, "
                "inside, . + - (file names are made from it)"
            )

    def prepared(self: Self, ks: tuple[int, ...]) -> Self:
        """The same for a sweep of these k."""
        return self

    def init(
        self,
        key: PRNGKeyArray,
        d_in: int,
        d_sae: int,
        config: SAEConfig,
        center: Center | None = None,
    ) -> Params:
        """Fresh weights, see `saejax.sae.params.init`, and beside them `extra_weights`.

        Architectures of one key share W_enc, b_enc, W_dec.
        """
        params = init(key, d_in, d_sae, config, center)
        return params._replace(**self.extra_weights(params))

    def extra_weights(self, params: Params) -> Mapping[str, Array]:
        """How the weights named in `extra` start, beside those of a ReLU."""
        return {}

    def encode(
        self,
        params: Params,
        x: Inputs,
        k: Scalar | float = 0,
        config: SAEConfig = STANDARD,
        precision: Precision = "highest",
    ) -> Latents:
        """Activations of a trained SAE.

        Args:
            params: one SAE.
            x: inputs.
            k: active latents of a sample; an architecture that reads l1 does not look at it.
            config: whether the encoder sees `x - b_dec`.
            precision: of the products.
        """
        return self.activate(params, relu.preactivation(params, x, config, precision), k)

    def activate(self, params: Params, pre: Latents, k: Scalar | float) -> Latents:
        """What `encode` makes of preactivations."""
        return jax.nn.relu(pre)

    def decode(self, params: Params, h: Latents, precision: Precision = "highest") -> Inputs:
        """Reconstructions `x_hat = h @ W_dec + b_dec`."""
        return relu.decode(params, h, precision)

    def loss(
        self,
        params: Params,
        x: Inputs,
        swept: Swept,
        config: SAEConfig,
        precision: Precision = "highest",
        axis: str | None = None,
    ) -> Loss:
        """What training lowers: here `mse + l1 * sparsity`.

        Args:
            params: one SAE.
            x: the batch, or this device's part of it.
            swept: the cell's numbers.
            config: of the SAE.
            precision: of the products.
            axis: of the devices over which the batch is divided, None where one has it all.
        """
        mse, sparsity = relu.mse_and_sparsity(config, precision, params, x)
        return Loss(mse + swept.l1 * sparsity, mse)

    def penalized(
        self, params: Params, x: Inputs, h: Latents, config: SAEConfig = STANDARD
    ) -> Float[Array, " batch"]:
        """What the coefficient multiplies for each sample, unreduced: here the sum of h."""
        return h.sum(-1)

    def lowered(
        self,
        params: Params,
        x: Inputs,
        swept: Swept,
        config: SAEConfig,
        precision: Precision = "highest",
        axis: str | None = None,
    ) -> Loss:
        """What the engine trains for: `loss`, or the objective that stands in its place."""
        if self.objective is None:
            return self.loss(params, x, swept, config, precision, axis)
        h = self.encode(params, x, swept.k, config, precision)
        x_hat = self.decode(params, h, precision)
        total = self.objective(params, x, h, x_hat, swept.l1)
        return Loss(total, jnp.mean((x_hat - x) ** 2), largest(h))

    def dead_gradient(
        self,
        params: Params,
        dead: Mask,
        x: Inputs,
        swept: Swept,
        config: SAEConfig,
        precision: Precision = "highest",
        axis: str | None = None,
    ) -> Params:
        """The gradient of the auxiliary loss for dead latents, where `revivals` has "auxk".

        `dead` says which latents are; with none of them the gradient is 0. Other arguments as in
        `loss`.

        Raises:
            NotImplementedError: for an architecture without one.
        """
        raise NotImplementedError(f"architecture {self.name!r} has no auxiliary loss")

    def settle(self, params: Params, loss: Loss, axis: str | None = None) -> Params:
        """Weights after an update, with those moved on that are not learned by gradient."""
        return params

    def revive(self, params: Params, dead: Mask, bias: Scalar | float) -> Params:
        """Weights after a resampling gave dead latents new W_enc and W_dec, and `bias` as b_enc."""
        return params

    def describe(self, d_in: int = 2) -> dict[str, Any]:
        """Its constants, JSON types only; of an objective what tells it from another.

        `d_in` is that of the data, which an objective may capture arrays for.

        Raises:
            ValueError: for an objective that fails there or returns no scalar.
        """
        constants = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "objective"}
        if self.objective is not None:
            constants["objective"] = _trace(self.objective, d_in)
        return {"kind": self.kind, **constants}

    def program(self, d_in: int) -> str:
        """SHA-256 of what its functions and the gradient of its loss compute.

        Batch and d_sae are small ones, so that it tells nothing of a sweep. A ValueError where one
        of the functions fails.
        """
        batch, d_sae, ready = 8, 32, self.prepared((1,))

        def everything(
            key: Any, params: Params, x: Any, h: Any, dead: Any, l1: Any, k: Any, bias: Any
        ) -> Any:
            rest = x, Swept(l1, k), STANDARD
            loss = ready.loss(params, *rest)
            return (
                ready.init(key, d_in, d_sae, STANDARD),
                ready.encode(params, x, k),
                ready.decode(params, h),
                loss,
                jax.grad(lambda p: ready.loss(p, *rest).total)(params),
                ready.penalized(params, x, h),
                ready.settle(params, loss),
                ready.revive(params, dead, bias),
                ready.dead_gradient(params, dead, *rest) if "auxk" in ready.revivals else None,
            )

        key = jax.eval_shape(lambda: jax.random.key(0))
        x, h, number = _shapes((batch, d_in), (batch, d_sae), ())
        dead = jax.ShapeDtypeStruct((d_sae,), jnp.bool_)
        try:
            params = jax.eval_shape(lambda k: ready.init(k, d_in, d_sae, STANDARD), key)
            return program(everything, key, params, x, h, dead, number, number, number)
        except Exception as error:
            raise ValueError(
                f"architecture: got {self.name!r}, whose functions fail for d_in {d_in}, d_sae "
                f"{d_sae} and {batch} samples: {error}; allowed: one for any d_sae and batch"
            ) from error

    def with_objective(self: Self, name: str, objective: Objective) -> Self:
        """The same SAE trained for another objective, to stand beside this one in a sweep.

        Args:
            name: value of the axis `architecture`.
            objective: plain function `(params, x, h, x_hat, l1) -> scalar` of one SAE and one
                batch: its weights, inputs [batch, d_in], activations [batch, d_sae],
                reconstructions and coefficient. JAX takes its gradient. Let it be a mean over
                samples, so that a batch may be divided over devices.

        Raises:
            ValueError: for an architecture some of whose weights would get no gradient, and for a
                function that returns no scalar.
        """
        if not self.takes_objective:
            raise ValueError(
                f"objective: got one for {self.name!r}, allowed: ReLU and TopK; of the others some "
                "weights are trained by their own loss alone"
            )
        # One that captures arrays of the data's d_in fails on other inputs; it is tried on those of
        # the data when a run is planned.
        with suppress(Untraceable):
            _trace(objective, d_in=2)
        return replace(self, name=name, objective=objective)


def _shapes(*shapes: tuple[int, ...]) -> list[Any]:
    return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]


def _trace(objective: Objective, d_in: int) -> str:
    """What tells an objective from others, on inputs of a width.

    Raises:
        ValueError: where it returns no scalar.
    """
    batch, d_sae = 4, 3
    params = Params(*_shapes((d_in, d_sae), (d_sae,), (d_sae, d_in), (d_in,)))
    x, h, l1 = _shapes((batch, d_in), (batch, d_sae), ())
    try:
        out = jax.eval_shape(objective, params, x, h, x, l1)
    except (TypeError, ValueError) as error:
        raise Untraceable(f"objective: fails on inputs of width {d_in}: {error}") from error
    if getattr(out, "shape", None) != ():
        raise ValueError(
            f"objective: got a function that returns {out}, allowed: one that returns a scalar"
        )
    return program(objective, params, x, h, x, l1, trained=True)


def largest(h: Latents) -> PerLatent:
    """Each latent's largest activation in a batch."""
    return jnp.max(h, axis=0)
