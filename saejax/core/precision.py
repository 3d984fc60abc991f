"""How matrix products are computed: the one place that knows about operand types."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Precision = Literal["highest", "tf32", "bf16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


def matmul(
    a: Float[Array, "*batch n k"], b: Float[Array, "*batch k m"], precision: Precision = "highest"
) -> Float[Array, "*batch n m"]:
    """Matrix product `a @ b` of float32, accumulated and returned in float32.

    - "highest" multiplies in float32.
    - "tf32" lets the device round the operands to TensorFloat-32, 10 bits behind the point (bf16x3
      on a TPU; a CPU, which has no such mode, rounds them first, which shows what it does to
      results at no gain in speed).
    - "bf16" rounds the operands to bfloat16 first, spelled out as a cast because
      `jax.default_matmul_precision` changes nothing on a CPU.
    """
    if precision == "bf16":
        a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
        return jnp.matmul(a, b, preferred_element_type=jnp.float32)
    if precision == "tf32" and jax.default_backend() == "cpu":
        a, b = (jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=10) for x in (a, b))
    lax_precision = jax.lax.Precision.HIGH if precision == "tf32" else jax.lax.Precision.HIGHEST
    return jnp.matmul(a, b, precision=lax_precision)
