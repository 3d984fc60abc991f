"""How much of a language model's loss the reconstructions of its residual stream preserve."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Integer

from saejax.lm.ablation import Ablations, Reading, ablations, read, reconstructed
from saejax.lm.harvest import Packing
from saejax.lm.loss import share_recovered
from saejax.lm.model import GPT
from saejax.lm.training import spread_windows
from saejax.sae.params import Params

# Tokens whose logits are held at once.
TOKENS = 4096


@dataclass(frozen=True)
class Recovery:
    """A text that a model has read, to be read again with reconstructions. Made by `recovery`.

    `ablated` are the losses with the activation at `hook` as it is and ablated; positions before
    `first` keep theirs.
    """

    model: GPT
    hook: str
    reading: Reading
    ablated: Ablations
    first: int
    batch_size: int

    def of_the_model(self) -> dict[str, float]:
        """Mean losses in nats per token: `clean`, and by the two ablations, `zero` and `mean`."""
        named = self.ablated._asdict().items()
        return {name: float(np.mean(losses, dtype=np.float64)) for name, losses in named}

    def of(self, params: Params) -> dict[str, float]:
        """What an SAE preserves, whose encoder sees `x - b_dec`.

        Returns:
            `loss` with the reconstruction in the activation's place, in nats per token;
            `recovered_zero` and `recovered_mean`, the shares recovered of what either ablation
            costs.
        """
        params, where = jax.tree.map(jnp.asarray, params), (self.batch_size, self.first)
        losses, _ = reconstructed(self.model, self.reading, self.hook, params, *where)
        clean, zero, mean, replaced = (np.asarray(a, np.float64) for a in (*self.ablated, losses))
        return {
            "loss": float(replaced.mean()),
            "recovered_zero": float(share_recovered(clean, zero, replaced)),
            "recovered_mean": float(share_recovered(clean, mean, replaced)),
        }


def recovery(
    model: GPT, tokens: Integer[np.ndarray, " tokens"], hook: str, packing: Packing, n_windows: int
) -> Recovery:
    """Reads windows of a text, cut as those that the SAEs were trained on.

    Args:
        model: the weights.
        tokens: of a text that nothing was trained on.
        hook: which activation is replaced.
        packing: positions that it leaves out of the rows keep their activation.
        n_windows: how many, spread evenly over the text.

    Raises:
        ValueError: for a text shorter than one window and the token behind it.
    """
    length = packing.stride + 1
    if tokens.size < length:
        raise ValueError(f"tokens: got {tokens.size} of validation text, allowed: {length} or more")
    windows = spread_windows(tokens, n_windows, length).astype(np.int32)
    if packing.bos is not None:
        windows = np.insert(windows, 0, packing.bos, axis=1)
    batch_size, first = max(1, TOKENS // packing.context), int(packing.drop_first)
    reading = read(model, jnp.asarray(windows), hook, batch_size)
    ablated = jax.device_get(ablations(model, reading, hook, batch_size, first))
    return Recovery(model, hook, reading, ablated, first, batch_size)
