"""PyTorch, one SAE after another, as the published recipe trains them."""

from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from saejax.experiments.benchmark import recipe
from saejax.experiments.benchmark.problem import LR, Problem
from saejax.sae.params import Params


def prepare(problem: Problem) -> Callable[[], Callable[[], Any]]:
    """As `saejax.experiments.benchmark.ours.prepare`; every SAE goes through all batches before the
    next one."""
    at = recipe.device()
    batches = recipe.on_device(problem.batches, at)

    def one(l1: float) -> recipe.AutoEncoder:
        model = recipe.AutoEncoder(problem.weights).to(at)
        optimizer = torch.optim.Adam(model.parameters(), lr=LR)
        for x in batches:
            recipe.normalise(model.decoder.weight)
            h, x_hat = model(x)
            loss = recipe.objective(h, x_hat, x, l1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return model

    def train() -> Callable[[], list[Params]]:
        models = [one(l1) for l1 in problem.l1]
        recipe.wait(at)
        return lambda: [
            recipe.dictionary(m.encoder.weight, m.encoder.bias, m.decoder.weight) for m in models
        ]

    return train
