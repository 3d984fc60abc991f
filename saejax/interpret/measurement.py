"""One SAE on a sample of text: what its latents do, which are labelled, what a viewer shows of
them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64
from scipy.sparse import csc_array

from saejax.data.store.reader import Store
from saejax.interpret.activity import Statistics, activity, correlations, sequences, statistics
from saejax.interpret.contexts import evidence, histograms, slots, surroundings
from saejax.interpret.dashboard import Dashboard, TextSample
from saejax.interpret.effects import token_effects
from saejax.interpret.evidence import Evidence, Label
from saejax.interpret.monosemanticity import Chosen, chosen
from saejax.interpret.relations import elsewhere, most_correlated, neighbours
from saejax.interpret.settings import InterpretSettings
from saejax.lm.model import GPT
from saejax.sae.params import Params


class StoredText(NamedTuple):
    """A sample of a store.

    Attributes:
        rows: numbers of its rows in the store.
        sample: their tokens.
    """

    rows: Int64[np.ndarray, " rows"]
    sample: TextSample


def stored_text(store: Store, vocabulary: tuple[str, ...], n_tokens: int) -> StoredText:
    """About so many tokens of a store, as `saejax.interpret.activity.sequences` chooses them.

    Args:
        store: with tokens and positions.
        vocabulary: text of every token id.
        n_tokens: how many.

    Raises:
        ValueError: for a number below 1, and a store without tokens.
    """
    rows, bounds = sequences(store, n_tokens)
    return StoredText(rows, TextSample(store.token_ids(rows), bounds, vocabulary))


class Measured(NamedTuple):
    """An SAE on a sample.

    Attributes:
        h: activations, [rows, d_sae].
        statistics: of every latent.
        dead: share of the latents that are never above the threshold.
        chosen: latents that are labelled.
        evidence: of these, the highest selectivity first.
        correlation: of the activations of these, in the same order.
    """

    h: csc_array
    statistics: Statistics
    dead: float
    chosen: Chosen
    evidence: list[Evidence]
    correlation: Float[np.ndarray, "labelled labelled"]


def measure(
    params: Params, store: Store, text: StoredText, settings: InterpretSettings
) -> Measured:
    """Runs an SAE over a sample.

    Args:
        params: whose encoder sees `x - b_dec`.
        store: of the activations that it was trained on.
        text: a sample of the store.
        settings: what is labelled.

    Raises:
        ValueError: as `activity`.
    """
    h = activity(params, store, text.rows)
    found = statistics(h)
    picked = chosen(found.selectivity, found.firings, settings.n_labelled, settings.least_firings)
    shown = settings.label_contexts, settings.before, settings.after
    return Measured(
        h,
        found,
        float((found.highest <= settings.dead_threshold).mean()),
        picked,
        [evidence(h, text.sample, int(latent), *shown) for latent in picked.latents],
        np.asarray(correlations(h, picked.latents)),
    )


def halves(correlation: Float[np.ndarray, "n n"], n_top: int) -> tuple[float, float]:
    """Mean correlation of different labelled latents within top and bottom, and across the two.

    Args:
        correlation: of the labelled latents, those of high selectivity first.
        n_top: how many these are.

    Returns:
        NaN where there is no pair.
    """
    top = np.arange(len(correlation)) < n_top
    alike = (top[:, None] == top) & ~np.eye(len(top), dtype=bool)
    across = top[:, None] != top
    return tuple(
        float(correlation[pairs].mean()) if pairs.any() else np.nan for pairs in (alike, across)
    )  # pyright: ignore[reportReturnType]


def dashboard(
    name: str,
    coords: Mapping[str, Any],
    params: Params,
    measured: Measured,
    labels: Sequence[Label],
    others: Iterable[tuple[str, Float[np.ndarray, "_ d_in"]]],
    model: GPT,
    text: StoredText,
    settings: InterpretSettings,
) -> Dashboard:
    """What a viewer shows of an SAE in the residual stream.

    Args:
        name: fit for a file name.
        coords: coordinates of the SAE.
        params: its weights.
        measured: on the sample.
        labels: of `measured.chosen.latents`.
        others: names and decoder rows of the SAEs that it is compared with.
        model: whose residual stream it reads.
        text: the sample.
        settings: what is shown.

    Raises:
        ValueError: for decoder rows of another width than the residual stream.
    """
    h, found, k = measured.h, measured.statistics, settings.related
    groups, rows = slots(
        h,
        text.sample,
        settings.top_contexts,
        settings.intervals,
        settings.interval_contexts,
        settings.random_contexts,
    )
    W_dec = np.asarray(params.W_dec)
    latents = (int(latent) for latent in measured.chosen.latents)
    return Dashboard(
        name=name,
        coords=coords,
        sample=text.sample,
        firings=found.firings,
        highest=found.highest,
        mean=found.mean.astype(np.float32),
        selectivity=np.where(
            found.firings >= settings.least_firings, found.selectivity, np.nan
        ).astype(np.float32),
        dead=found.highest <= settings.dead_threshold,
        histogram=histograms(h, found.highest, settings.bins),
        groups=groups,
        rows=rows,
        before=settings.before,
        after=settings.after,
        activations=surroundings(h, text.sample, rows, settings.before, settings.after),
        effects=token_effects(model, W_dec, k, settings.bins),
        correlated=most_correlated(np.asarray(correlations(h)), k),
        neighbours=neighbours(W_dec, k),
        elsewhere=tuple(elsewhere(W_dec, other, theirs) for other, theirs in others),
        labels=dict(zip(latents, labels, strict=True)),
    )
