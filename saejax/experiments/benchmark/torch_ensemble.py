"""PyTorch, all SAEs of one width at once: the recipe's module under `torch.func.vmap`.

Source: the model ensembling tutorial of PyTorch (`stack_module_state`, `functional_call`, `vmap`).
"""

from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch.func import functional_call, stack_module_state, vmap  # pyright: ignore[reportMissingImports]

from saejax.experiments.benchmark import recipe
from saejax.experiments.benchmark.problem import LR, Problem
from saejax.sae.params import Params


def prepare(problem: Problem) -> Callable[[], Callable[[], Any]]:
    """As `saejax.experiments.benchmark.ours.prepare`; the SAEs share each batch.

    Adam works element by element, so that one optimiser over stacked weights is one for each SAE.
    """
    at = recipe.device()
    batches = recipe.on_device(problem.batches, at)
    l1 = torch.tensor(problem.l1, device=at)

    def train() -> Callable[[], list[Params]]:
        models = [recipe.AutoEncoder(problem.weights).to(at) for _ in problem.l1]
        params, _ = stack_module_state(models)
        skeleton = models[0].to("meta")

        def loss(params: dict, l1: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            h, x_hat = functional_call(skeleton, params, (x,))
            return recipe.objective(h, x_hat, x, l1)

        losses = vmap(loss, in_dims=(0, 0, None))
        optimizer = torch.optim.Adam(params.values(), lr=LR)
        for x in batches:
            recipe.normalise(params["decoder.weight"])
            optimizer.zero_grad()
            losses(params, l1, x).sum().backward()
            optimizer.step()
        recipe.wait(at)
        names = "encoder.weight", "encoder.bias", "decoder.weight"
        return lambda: [
            recipe.dictionary(*one) for one in zip(*(params[name] for name in names), strict=True)
        ]

    return train
