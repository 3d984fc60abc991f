"""The published toy recipe in PyTorch, which a loop and an ensemble train.

Source: the replication code of "Taking features out of superposition with sparse autoencoders"
(github.com/HoagyC/sparse_coding), which the posts of the grid and toy3d studies build on.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from saejax.sae.params import Params


class AutoEncoder(nn.Module):
    """`x_hat = relu(encoder(x)) @ W_dec`: a linear layer with a bias, and one without.

    Args:
        weights: to start from.
    """

    def __init__(self, weights: Params) -> None:
        super().__init__()
        d_in, d_sae = weights.W_enc.shape
        # Weights that are about to be overwritten need not be drawn.
        self.encoder = nn.Linear(d_in, d_sae, device="meta").to_empty(device="cpu")
        self.decoder = nn.Linear(d_sae, d_in, bias=False, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            for own, given in (
                (self.encoder.weight, weights.W_enc.T),
                (self.encoder.bias, weights.b_enc),
                (self.decoder.weight, weights.W_dec.T),
            ):
                own.copy_(torch.tensor(np.asarray(given)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Activations and reconstructions of a batch."""
        h = torch.relu(self.encoder(x))
        return h, self.decoder(h)


def objective(
    h: torch.Tensor, x_hat: torch.Tensor, x: torch.Tensor, l1: float | torch.Tensor
) -> torch.Tensor:
    """`mse + l1 * sparsity` with the mean over latents, as `saejax.sae.params` defines it."""
    return nn.functional.mse_loss(x_hat, x) + l1 * h.norm(p=1, dim=-1).mean() / h.shape[-1]


def normalise(weight: torch.Tensor) -> None:
    """Scales dictionary rows, columns of the decoder's weight, to norm 1 where they lie."""
    weight.data = nn.functional.normalize(weight.data, dim=-2)


def dictionary(encoder: torch.Tensor, bias: torch.Tensor, decoder: torch.Tensor) -> Params:
    """Trained weights as this library writes them.

    The recipe scales the rows before each use, so those of the last update still have to be.
    """
    rows = nn.functional.normalize(decoder.detach(), dim=0).T
    W_enc, b_enc = encoder.detach().T, bias.detach()
    return Params(*(jnp.asarray(a.cpu().numpy()) for a in (W_enc, b_enc, rows)))


def device() -> torch.device:
    """Where the peers train: on what JAX trains on.

    Raises:
        ValueError: where torch has no such device.
    """
    platform = jax.default_backend()
    if platform == "cpu":
        return torch.device("cpu")
    if platform != "gpu" or not torch.cuda.is_available():
        raise ValueError(
            f"peers: got a {platform} that torch {torch.__version__} does not see, allowed: a "
            "CPU, or a GPU and a torch that is built for it"
        )
    return torch.device("cuda")


def wait(at: torch.device) -> None:
    """Returns once the device has done all that it was asked."""
    if at.type == "cuda":
        torch.cuda.synchronize(at)


def on_device(batches: np.ndarray, at: torch.device) -> Sequence[torch.Tensor]:
    """The batches of a problem, one tensor each."""
    return torch.from_numpy(batches).to(at).unbind()
