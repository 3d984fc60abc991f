"""What the dictionaries of a sweep do in the language model that they were trained on."""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Integer, PRNGKeyArray

from saejax.experiments.bimodality.settings import AnalysisSettings
from saejax.lm.ablation import Ablations, Reading, ablations, latent_effects, read, reconstructed
from saejax.lm.model import GPT
from saejax.results.result import Result
from saejax.sae.params import Params

Cell = tuple[float, int]


class Measured(NamedTuple):
    """Numbers of the latents of every (l1, d_sae), leading axis the seeds.

    Attributes:
        ablated: losses of the model as it is and with the activation ablated, in nats.
        losses: with the reconstruction in the activation's place, in nats.
        frequency: share of the tokens on which a latent is active.
        effect: expected rise of the loss in nats per firing when a latent is ablated, see
            `saejax.lm.ablation.latent_effects`; NaN where it was not measured, 0 where there is
            nothing to ablate because the latent is dead.
        control: the same of a random direction in its place; NaN for dead latents.
        other_control: the same of another one.
    """

    ablated: Ablations
    losses: dict[Cell, Float32[np.ndarray, "seeds windows"]]
    frequency: dict[Cell, Float32[np.ndarray, "seeds d_sae"]]
    effect: dict[Cell, Float32[np.ndarray, "seeds d_sae"]]
    control: dict[Cell, Float32[np.ndarray, "seeds d_sae"]]
    other_control: dict[Cell, Float32[np.ndarray, "seeds d_sae"]]


def sizes(result: Result) -> list[int]:
    """Sizes of the dictionaries of a sweep, rising."""
    return sorted(result.d_sae)


def dictionaries(result: Result, l1: float, d_sae: int) -> list[Params]:
    """The dictionaries of one l1 and size, one a seed.

    Args:
        result: of a sweep over one data set, lr and resample.
        l1: one of its coefficients.
        d_sae: one of its sizes.
    """
    ratio = result.coords["ratio"][result.d_sae.index(d_sae)]
    return [result.dictionary(l1=l1, ratio=ratio, seed=seed) for seed in result.coords["seed"]]


def measure(
    result: Result,
    model: GPT,
    windows: Integer[np.ndarray, "windows context_and_next"],
    hook: str,
    settings: AnalysisSettings,
    key: PRNGKeyArray,
    done: Callable[[str], None] = lambda name: None,
) -> Measured:
    """Runs every dictionary of a sweep on a text.

    Args:
        result: of the sweep, over one data set, lr and resample.
        model: whose activations it was trained on.
        windows: of a text that neither the model nor the dictionaries have seen.
        hook: where the activations are from.
        settings: how many latents are ablated, in how many windows.
        key: chooses them.
        done: called with the name of each dictionary that has been run.
    """
    reading = jax.block_until_ready(read(model, jnp.asarray(windows), hook))
    out = Measured(jax.device_get(ablations(model, reading, hook)), {}, {}, {}, {}, {})
    seeds = result.coords["seed"]
    for l1, d_sae in product(result.coords["l1"], sizes(result)):
        parts = []
        for seed, params in zip(seeds, dictionaries(result, l1, d_sae), strict=True):
            own = jax.random.fold_in(jax.random.fold_in(key, d_sae), seed)
            # Nothing is larger than the largest: its MCS has nothing to be explained.
            n = settings.n_ablated if d_sae < max(result.d_sae) else 0
            on_device = jax.tree.map(jnp.asarray, params)
            parts.append(
                _of_one(model, reading, hook, on_device, n, settings.ablation_windows, own)
            )
            done(f"l1 {l1:g}, d_sae {d_sae}, seed {seed}")
        for column, values in zip(out[1:], zip(*parts, strict=True), strict=True):
            column[l1, d_sae] = np.stack(values)
    return out


def _of_one(
    model: GPT,
    reading: Reading,
    hook: str,
    params: Params,
    n_ablated: int,
    n_windows: int,
    key: PRNGKeyArray,
) -> tuple[np.ndarray, ...]:
    """What `Measured` has of one dictionary."""
    losses, frequency = map(np.asarray, reconstructed(model, reading, hook, params))
    effects = np.full((3, len(frequency)), np.nan, np.float32)
    of_choice, of_ablation = jax.random.split(key)
    if n_ablated := min(n_ablated, len(frequency)):
        chosen = np.asarray(
            jax.random.choice(of_choice, len(frequency), (n_ablated,), replace=False)
        )
        found = latent_effects(
            model, reading, hook, reduced(params, chosen), of_ablation, n_windows
        )
        effects[:, chosen] = np.stack(found[:3])
        # A dead latent has nothing to ablate: it is known to have no effect.
        effects[0, chosen[frequency[chosen] == 0]] = 0
    return losses, frequency, *effects


def reduced(params: Params, latents: Integer[np.ndarray, " n"]) -> Params:
    """An SAE with some of its latents only."""
    W_enc, b_enc, W_dec, b_dec, *_ = params
    return Params(W_enc[:, latents], b_enc[latents], W_dec[latents], b_dec)
