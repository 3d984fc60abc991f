"""A GPT-2 style decoder whose activations can be read and replaced by name.

    x   = wte[token] + wpe[position]
    x   = x + attn(ln_1(x));   x = x + c_proj(gelu(c_fc(ln_2(x))))    in every block
    logits = ln_f(x) @ wte^T

Pre-LayerNorm, learned positions, GELU in its tanh form, biases everywhere, the unembedding tied to
the embedding: what nanoGPT trains and what GPT-2 is. Modules carry GPT-2's names and shapes, with
c_attn the fused query, key and value, so that the tensors of its files map one to one: a layer's
`weight` is `kernel` (not transposed), `scale` or `embedding` here.

Sources: "Language models are unsupervised multitask learners" (Radford et al., 2019); nanoGPT
(Karpathy, 2022). The names of the hook points are TransformerLens's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Integer, PRNGKeyArray

from saejax.core.checks import ABOVE_0, check_choice, check_number_fields, check_whole_fields
from saejax.core.precision import PRECISIONS, Precision, matmul

HOOKS = ("hook_resid_pre", "hook_resid_mid", "mlp.hook_post", "hook_mlp_out", "hook_resid_post")

# At a hook point; `_` because hook points differ in width.
Activation = Float[Array, "*batch context _"]
Stream = Float[Array, "*batch context d_model"]
Replacement = Callable[[Activation], Activation] | Array
Replacements = Mapping[str, Replacement]
Tokens = Integer[Array, "*batch context"]


@dataclass(frozen=True)
class GPTConfig:
    """Shape of a model. The defaults but for the vocabulary are from the bimodality study's text.

    Args:
        vocab_size: number of tokens (GPT-2: 50257).
        context: longest sequence.
        n_layers: number of blocks.
        d_model: width of the residual stream.
        d_mlp: width of the MLPs (GPT-2: 4 d_model).
        n_heads: attention heads, each of width d_model / n_heads.
        layer_norm_eps: what LayerNorm adds to the variance.
        matmul_precision: operands of the products with weights, see `saejax.core.precision.matmul`.
    """

    vocab_size: int
    context: int = 256
    n_layers: int = 6
    d_model: int = 32
    d_mlp: int = 128
    n_heads: int = 4
    layer_norm_eps: float = 1e-5
    matmul_precision: Precision = "highest"

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "context", "n_layers", "d_model", "d_mlp", "n_heads")
        check_whole_fields(self, dict.fromkeys(sizes, 1))
        if self.d_model % self.n_heads:
            raise ValueError(
                f"n_heads: got {self.n_heads}, allowed: a divisor of d_model={self.d_model}"
            )
        check_number_fields(self, [("layer_norm_eps", *ABOVE_0)])
        check_choice("matmul_precision", self.matmul_precision, ", ".join(PRECISIONS), PRECISIONS)


def _linear(d_in: int, d_out: int, std: float, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(d_in, d_out, kernel_init=nnx.initializers.normal(std), rngs=rngs)


def _layer_norm(config: GPTConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # The fast variance, E[x^2] - E[x]^2, loses digits where a mean is large, as in GPT-2's stream.
    return nnx.LayerNorm(
        config.d_model, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs
    )


def _product(
    x: Float[Array, "*batch n"], W: Float[Array, "n m"], precision: Precision
) -> Float[Array, "*batch m"]:
    return matmul(x.reshape(-1, x.shape[-1]), W, precision).reshape(*x.shape[:-1], W.shape[1])


def _apply(
    layer: nnx.Linear, x: Float[Array, "*batch n"], precision: Precision
) -> Float[Array, "*batch m"]:
    assert layer.bias is not None
    return _product(x, layer.kernel[...], precision) + layer.bias[...]


class Attention(nnx.Module):
    """Causal self-attention with the query, key and value of all heads in one product."""

    def __init__(self, config: GPTConfig, rngs: nnx.Rngs) -> None:
        d, out_std = config.d_model, 0.02 / (2 * config.n_layers) ** 0.5
        self.config = config
        self.c_attn = _linear(d, 3 * d, 0.02, rngs)
        self.c_proj = _linear(d, d, out_std, rngs)

    def __call__(self, x: Stream) -> Stream:
        n_heads, precision = self.config.n_heads, self.config.matmul_precision
        length, d_head = x.shape[-2], x.shape[-1] // n_heads
        # [batch, head, position, d_head]. jax.nn.dot_product_attention computes the same, but takes
        # four times as long on a CPU (31 against 8 ms forward and backward, heads of 8).
        q, k, v = (
            part.reshape(-1, length, n_heads, d_head).swapaxes(1, 2)
            for part in jnp.split(_apply(self.c_attn, x, precision), 3, axis=-1)
        )
        scores = matmul(q, k.swapaxes(-1, -2), precision) / d_head**0.5
        past = jnp.tril(jnp.ones((length, length), bool))
        pattern = jax.nn.softmax(jnp.where(past, scores, -jnp.inf), axis=-1)
        mixed = matmul(pattern, v, precision).swapaxes(1, 2).reshape(x.shape)
        return _apply(self.c_proj, mixed, precision)


class MLP(nnx.Module):
    """The two products of a block's MLP; the nonlinearity between them is a hook point."""

    def __init__(self, config: GPTConfig, rngs: nnx.Rngs) -> None:
        out_std = 0.02 / (2 * config.n_layers) ** 0.5
        self.config = config
        self.c_fc = _linear(config.d_model, config.d_mlp, 0.02, rngs)
        self.c_proj = _linear(config.d_mlp, config.d_model, out_std, rngs)

    def up(self, x: Stream) -> Float[Array, "*batch context d_mlp"]:
        """Activations `gelu(c_fc(x))`."""
        return jax.nn.gelu(_apply(self.c_fc, x, self.config.matmul_precision), approximate=True)

    def down(self, post: Float[Array, "*batch context d_mlp"]) -> Stream:
        """What the block adds to the residual stream, `c_proj(post)`."""
        return _apply(self.c_proj, post, self.config.matmul_precision)


class Block(nnx.Module):
    """One layer: attention, then MLP, each reading a normalised copy of the stream."""

    def __init__(self, config: GPTConfig, rngs: nnx.Rngs) -> None:
        self.ln_1 = _layer_norm(config, rngs)
        self.attn = Attention(config, rngs)
        self.ln_2 = _layer_norm(config, rngs)
        self.mlp = MLP(config, rngs)


class GPT(nnx.Module):
    """The model: a pytree of its weights, for `forward`, `jax.jit`, `jax.vmap` or `jax.grad`.

    Weights are Gaussian with deviation 0.02, those of the products that write into the residual
    stream 0.02 / sqrt(2 n_layers); biases are 0. Made by `init_gpt`.
    """

    def __init__(self, config: GPTConfig, rngs: nnx.Rngs) -> None:
        normal = nnx.initializers.normal(0.02)
        self.config = config
        self.wte = nnx.Embed(config.vocab_size, config.d_model, embedding_init=normal, rngs=rngs)
        self.wpe = nnx.Embed(config.context, config.d_model, embedding_init=normal, rngs=rngs)
        self.h = nnx.List([Block(config, rngs) for _ in range(config.n_layers)])
        self.ln_f = _layer_norm(config, rngs)


@partial(jax.jit, static_argnames="config")
def init_gpt(config: GPTConfig, key: PRNGKeyArray) -> GPT:
    """A model with fresh weights."""
    return GPT(config, nnx.Rngs(key))


def n_parameters(config: GPTConfig) -> int:
    """Number of weights of a model, the tied embedding counted once."""
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_gpt(config)))


def abstract_gpt(config: GPTConfig) -> Any:
    """The tree of a model with `jax.ShapeDtypeStruct` in place of its weights."""
    return jax.eval_shape(lambda: GPT(config, nnx.Rngs(0)))


def hook_names(config: GPTConfig) -> tuple[str, ...]:
    """Every activation that can be read or replaced, in the order in which they are computed.

    `blocks.{i}.hook_resid_pre`, `hook_resid_mid`, `hook_resid_post` are the residual stream before
    the layer, between attention and MLP, and behind it; `mlp.hook_post` the MLP's activations
    behind the nonlinearity, `hook_mlp_out` what the MLP adds to the stream.
    """
    return tuple(f"blocks.{i}.{hook}" for i in range(config.n_layers) for hook in HOOKS)


def hook_width(config: GPTConfig, hook: str) -> int:
    """Width of the activations at a hook point; a ValueError for an unknown name."""
    _check_hooks(config, "hook", (hook,))
    return config.d_mlp if hook.endswith("mlp.hook_post") else config.d_model


def _check_hooks(config: GPTConfig, argument: str, names: Sequence[str]) -> None:
    allowed = hook_names(config)
    for name in names:
        if name not in allowed:
            raise ValueError(f"{argument}: got {name!r}, allowed: {', '.join(allowed)}")


def forward(
    model: GPT, tokens: Tokens, read: Sequence[str] = (), replace: Replacements | None = None
) -> tuple[Float[Array, "*batch context vocab"], dict[str, Activation]]:
    """Logits of the next token at every position, and the activations asked for.

    Pure: under `jax.jit` let `read` be static and close over `replace`.

    Args:
        model: the weights.
        tokens: ids below vocab_size, at most `context` of them; leading axes are batches.
        read: names of hook points (`hook_names`), whose activations are returned after replacement.
        replace: for a hook point what the rest of the model sees in its place: a function of the
            activation that returns one of its shape, or an array that broadcasts to it.

    Raises:
        ValueError: for unknown names, too many tokens, replacements of another shape.
    """
    x, activations = stream(model, tokens, read, replace)
    return unembed(model, x), activations


def unembed(model: GPT, x: Stream) -> Float[Array, "*batch context vocab"]:
    """Logits `ln_f(x) @ wte^T` of the residual stream behind the last block."""
    return _product(model.ln_f(x), model.wte.embedding[...].T, model.config.matmul_precision)


def activations(
    model: GPT, tokens: Tokens, read: Sequence[str], replace: Replacements | None = None
) -> dict[str, Activation]:
    """The activations of `forward`, computed without the layers behind the last one read.

    Arguments and errors as in `forward`.
    """
    names = hook_names(model.config)
    _check_hooks(model.config, "read", read)
    n_layers = max((names.index(name) // len(HOOKS) + 1 for name in read), default=0)
    return stream(model, tokens, read, replace, n_layers)[1]


def stream(
    model: GPT,
    tokens: Tokens,
    read: Sequence[str] = (),
    replace: Replacements | None = None,
    n_layers: int | None = None,
) -> tuple[Stream, dict[str, Activation]]:
    """The residual stream behind the first `n_layers` blocks (None: all), and what was read there.

    Other arguments and errors as in `forward`, which is this and then `unembed`.
    """
    config, length, replace = model.config, tokens.shape[-1], replace or {}
    _check_hooks(config, "read", read)
    _check_hooks(config, "replace", tuple(replace))
    if not 1 <= length <= config.context:
        raise ValueError(f"tokens: got {length} of them, allowed: 1 to context={config.context}")
    activations: dict[str, Activation] = {}

    def hook(name: str, x: Activation) -> Activation:
        if name in replace:
            x = _replaced(name, x, replace[name])
        if name in read:
            activations[name] = x
        return x

    # In float32 even where the weights are bfloat16: every layer adds to the stream.
    x = model.wte.embedding[...][tokens].astype(jnp.float32) + model.wpe.embedding[...][:length]
    for i, block in enumerate(list(model.h)[:n_layers]):
        x = hook(f"blocks.{i}.hook_resid_pre", x)
        x = hook(f"blocks.{i}.hook_resid_mid", x + block.attn(block.ln_1(x)))
        post = hook(f"blocks.{i}.mlp.hook_post", block.mlp.up(block.ln_2(x)))
        x = x + hook(f"blocks.{i}.hook_mlp_out", block.mlp.down(post))
        x = hook(f"blocks.{i}.hook_resid_post", x)
    return x, activations


def _replaced(name: str, x: Activation, replacement: Replacement) -> Activation:
    new = replacement(x) if callable(replacement) else replacement
    new = jnp.asarray(new, x.dtype)
    try:
        return jnp.broadcast_to(new, x.shape)
    except ValueError as error:
        raise ValueError(
            f"replace: got an array of shape {new.shape} for {name!r}, allowed: one that "
            f"broadcasts to {x.shape}"
        ) from error
