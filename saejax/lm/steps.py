"""The compiled part of training a language model: draw windows, step, all pure.

The windows of a step are a function of (seed, step), so a resumed run needs nothing but the step.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Integer, PRNGKeyArray

from saejax.lm.loss import next_token_losses
from saejax.lm.model import GPT, GPTConfig, init_gpt, stream
from saejax.lm.settings import LMSettings

# Rows of logits at a time on a CPU. All rows of a step do not fit into its cache, and the loss with
# its gradient takes twice as long (125 against 68 ms for 4096 rows of 4096 tokens).
LOSS_ROWS = 512


class State(NamedTuple):
    """What a step changes, and what a checkpoint holds."""

    model: GPT
    moments: Any


def learning_rate(settings: LMSettings, step: Int[Array, ""] | int) -> Float[Array, ""]:
    """Learning rate of a step: a line from 0 to `lr`, then half a cosine to `lr_end_share * lr`."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, settings.lr, settings.warmup_steps, settings.steps, settings.lr_end_share * settings.lr
    )
    return jnp.asarray(schedule(step), jnp.float32)


def optimizer(settings: LMSettings) -> optax.GradientTransformation:
    """AdamW behind a clip of the gradient's norm; only weights of two axes decay.

    Source: "Decoupled weight decay regularization" (Loshchilov and Hutter, 2019).
    """
    return optax.chain(
        optax.clip_by_global_norm(settings.grad_clip),
        optax.adamw(
            lambda step: learning_rate(settings, step),  # pyright: ignore[reportArgumentType]
            b1=settings.beta1,
            b2=settings.beta2,
            weight_decay=settings.weight_decay,
            mask=lambda weights: jax.tree.map(lambda w: w.ndim >= 2, weights),
        ),
    )


def start(config: GPTConfig, settings: LMSettings) -> State:
    """The state before the first step."""
    model = init_gpt(config, jax.random.fold_in(jax.random.key(settings.seed), 0))
    return State(model, optimizer(settings).init(model))


def draw_windows(
    tokens: Integer[Array, " tokens"], key: PRNGKeyArray, batch_size: int, length: int
) -> Integer[Array, "batch length"]:
    """Windows of successive tokens at places drawn uniformly with replacement."""
    starts = jax.random.randint(key, (batch_size,), 0, tokens.shape[0] - length + 1)
    return jax.vmap(lambda start: jax.lax.dynamic_slice(tokens, (start,), (length,)))(starts)


def training_loss(
    model: GPT, windows: Integer[Array, "batch context_and_next"]
) -> Float[Array, ""]:
    """Mean of `token_losses`, written for its gradient: logits are made a few windows at a time."""
    x, _ = stream(model, windows[:, :-1])
    n, context = windows.shape[0], windows.shape[1] - 1
    some = max(1, LOSS_ROWS // context) if jax.default_backend() == "cpu" else n
    one = jax.checkpoint(lambda pair: next_token_losses(model, *pair).mean())
    return jax.lax.map(one, (x, windows[:, 1:]), batch_size=some).mean()


@partial(jax.jit, static_argnames=("n", "settings"), donate_argnames="state")
def train_steps(
    state: State,
    tokens: Integer[Array, " tokens"],
    step: Int[Array, ""],
    *,
    n: int,
    settings: LMSettings,
) -> tuple[State, Float[Array, ""]]:
    """`n` more steps after `step` steps, compiled, and the mean of their losses in nats.

    The memory of the state is taken for the result.
    """
    stream_key = jax.random.fold_in(jax.random.key(settings.seed), 1)
    update = optimizer(settings).update
    length = state.model.config.context + 1

    def one(state: State, step: Int[Array, ""]) -> tuple[State, Float[Array, ""]]:
        key = jax.random.fold_in(stream_key, step)
        windows = draw_windows(tokens, key, settings.batch_size, length)
        loss, gradient = jax.value_and_grad(training_loss)(state.model, windows)
        weights: Any = state.model
        updates, moments = update(gradient, state.moments, weights)
        model: Any = optax.apply_updates(weights, updates)
        return State(model, moments), loss

    state, losses = jax.lax.scan(one, state, step + jnp.arange(n))
    return state, losses.mean()
