"""Matryoshka SAE: nested dictionaries that each have to reconstruct on their own.

    h     = BatchTopK(relu((x - b_dec) @ W_enc + b_enc))
    loss  = sum over prefixes m of mse_m + aux_coefficient * aux
    mse_m = mean over batch and d_in of (x - h[:m] @ W_dec[:m] - b_dec)^2

The first latents are in every prefix and learn what is most general; without that pressure wide
dictionaries split and absorb features. Prefixes are given as shares of d_sae; the last is the
whole. The auxiliary loss and the threshold are those of BatchTopK (`saejax.sae.topk`).

Source: Bussmann et al. (2025), Learning multi-level features with Matryoshka sparse autoencoders
(arXiv 2503.17547), section 3.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import jax.numpy as jnp

from saejax.core.checks import as_python, check_number
from saejax.core.precision import Precision, matmul
from saejax.sae import relu
from saejax.sae.architecture import Loss, Swept, largest
from saejax.sae.params import Inputs, Params, SAEConfig
from saejax.sae.topk import BatchTopK


@dataclass(frozen=True)
class Matryoshka(BatchTopK):
    """Nested BatchTopK dictionaries (module docstring).

    Args:
        name: value of the axis `architecture`.
        prefixes: shares of d_sae, rising, the last of them 1. The default doubles the size from
            prefix to prefix, about as the paper's 2048, 6144, 14336, 30720 and 65536 latents do.
        aux_k: as in `TopK`.
        aux_coefficient: as in `TopK`.
    """

    name: str = "matryoshka"
    prefixes: tuple[float, ...] = (1 / 32, 3 / 32, 7 / 32, 15 / 32, 1.0)

    kind: ClassVar[str] = "matryoshka"
    temporaries: ClassVar[tuple[int, int]] = (2, 0)
    source: ClassVar[str] = (
        "Bussmann et al. (2025), Learning multi-level features with Matryoshka sparse autoencoders "
        "(arXiv 2503.17547)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = "rising shares of d_sae above 0, the last 1"
        given = as_python(self.prefixes)
        shares: tuple[float, ...] = ()
        if isinstance(given, list | tuple):
            shares = tuple(check_number("prefixes", share, allowed) for share in given)
        if shares[-1:] != (1,) or any(a >= b for a, b in pairwise((0.0, *shares))):
            raise ValueError(f"prefixes: got {self.prefixes!r}, allowed: {allowed}")
        object.__setattr__(self, "prefixes", shares)

    def sizes(self, d_sae: int) -> tuple[int, ...]:
        """Latents of each prefix, at least one and none twice."""
        return tuple(sorted({max(1, round(share * d_sae)) for share in self.prefixes}))

    def loss(
        self,
        params: Params,
        x: Inputs,
        swept: Swept,
        config: SAEConfig,
        precision: Precision = "highest",
        axis: str | None = None,
    ) -> Loss:
        """The squared errors of all prefixes."""
        h = self._keep(axis)(relu.encode(params, x, config, precision), swept.k)
        b_dec = params.b_dec
        x_hat = jnp.zeros_like(x) if b_dec is None else jnp.broadcast_to(b_dec, x.shape)
        total, mse, start = jnp.zeros(()), jnp.zeros(()), 0
        for end in self.sizes(h.shape[-1]):
            x_hat = x_hat + matmul(h[:, start:end], params.W_dec[start:end], precision)
            mse = jnp.mean((x_hat - x) ** 2)
            total, start = total + mse, end
        return Loss(total, mse, largest(h), relu.smallest(h))
