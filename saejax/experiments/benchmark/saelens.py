"""SAELens's two ways to train several SAEs: `train_toy_sae` for each, and its multi-SAE trainer.

Both are fed the problem's batches instead of drawing their own, start from its weights, and keep
b_dec, which the recipe does not have, frozen at 0.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import torch  # pyright: ignore[reportMissingImports]
from sae_lens import LoggingConfig, StandardTrainingSAE, StandardTrainingSAEConfig  # pyright: ignore[reportMissingImports]
from sae_lens.config import SAETrainerConfig  # pyright: ignore[reportMissingImports]
from sae_lens.synthetic import train_toy_sae  # pyright: ignore[reportMissingImports]
from sae_lens.training.multi_sae_trainer import MultiSAETrainer  # pyright: ignore[reportMissingImports]

from saejax.experiments.benchmark import recipe
from saejax.experiments.benchmark.coefficients import to_saelens, with_unit_rows
from saejax.experiments.benchmark.problem import LR, Problem
from saejax.sae.params import Params


def _fresh(problem: Problem, l1: float, at: torch.device) -> StandardTrainingSAE:
    """An SAE of SAELens with the problem's weights and the same objective."""
    shape = problem.shape
    sae = StandardTrainingSAE(
        StandardTrainingSAEConfig(
            d_in=shape.d_in,
            d_sae=shape.d_sae,
            device=str(at),
            l1_coefficient=to_saelens(l1, shape.d_in, shape.d_sae),
            apply_b_dec_to_input=False,
            decoder_init_norm=None,
        )
    )
    with torch.no_grad():
        for name in ("W_enc", "b_enc", "W_dec"):
            getattr(sae, name).copy_(torch.tensor(getattr(problem.weights, name)))
    sae.b_dec.requires_grad_(False)
    return sae


def _dictionary(sae: StandardTrainingSAE) -> Params:
    weights = (jnp.asarray(a.detach().cpu().numpy()) for a in (sae.W_enc, sae.b_enc, sae.W_dec))
    return with_unit_rows(*weights)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Progress bars, one for each SAE, cost time on a terminal and say nothing here."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


class _Given(torch.nn.Module):
    """Stands where `train_toy_sae` expects a feature dictionary: hands batches on as they are."""

    def __init__(self, at: torch.device) -> None:
        super().__init__()
        self.feature_vectors = torch.empty(0, device=at)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def prepare_toy(problem: Problem) -> Callable[[], Callable[[], Any]]:
    """As `saejax.experiments.benchmark.ours.prepare`; `train_toy_sae` for one SAE after another."""
    at = recipe.device()
    batches = recipe.on_device(problem.batches, at)

    def one(l1: float) -> StandardTrainingSAE:
        sae, following = _fresh(problem, l1, at), iter(batches)
        # Only what is called of a dictionary of features and of a generator of activations.
        features: Any = _Given(at)
        activations: Any = lambda batch_size: next(following)  # noqa: E731
        train_toy_sae(
            sae,
            features,
            activations,
            training_samples=problem.steps * problem.shape.batch,
            batch_size=problem.shape.batch,
            lr=LR,
            device=at,
        )
        return sae

    def train() -> Callable[[], list[Params]]:
        with _quietly():
            saes = [one(l1) for l1 in problem.l1]
        recipe.wait(at)
        return lambda: [_dictionary(sae) for sae in saes]

    return train


def prepare_multi(problem: Problem) -> Callable[[], Callable[[], Any]]:
    """As `saejax.experiments.benchmark.ours.prepare`; `MultiSAETrainer` steps all SAEs on each
    batch in turn."""
    at = recipe.device()
    batches = recipe.on_device(problem.batches, at)

    def train() -> Callable[[], list[Params]]:
        saes: dict[str, Any] = {str(i): _fresh(problem, l1, at) for i, l1 in enumerate(problem.l1)}
        config = SAETrainerConfig(
            total_training_samples=problem.steps * problem.shape.batch,
            train_batch_size_samples=problem.shape.batch,
            lr=LR,
            lr_end=LR,
            device=str(at),
            logger=LoggingConfig(log_to_wandb=False),
        )
        following = ({"x": x} for x in batches)
        with _quietly():
            MultiSAETrainer(config, saes, dict.fromkeys(saes, "x"), following).fit()
        recipe.wait(at)
        return lambda: [_dictionary(sae) for sae in saes.values()]

    return train
