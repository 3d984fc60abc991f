"""One SAE on a sample of text: what is measured of its latents, and what a viewer shows of them."""

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
    """A sample of a store: its row numbers in the store, and their tokens."""

    rows: Int64[np.ndarray, " rows"]
    sample: TextSample


def stored_text(store: Store, vocabulary: tuple[str, ...], n_tokens: int) -> StoredText:
    """About n_tokens tokens of a store; choice and errors are those of `activity.sequences`."""
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
    """Runs an SAE over a sample of the store that it was trained on; errors as `activity`."""
    h = activity(params, store, text.rows)
    stats = statistics(h)
    picked = chosen(stats.selectivity, stats.firings, settings.n_labelled, settings.least_firings)
    shown = settings.label_contexts, settings.before, settings.after
    return Measured(
        h,
        stats,
        float((stats.highest <= settings.dead_threshold).mean()),
        picked,
        [evidence(h, text.sample, int(latent), *shown) for latent in picked.latents],
        np.asarray(correlations(h, picked.latents)),
    )


def halves(correlation: Float[np.ndarray, "n n"], n_top: int) -> tuple[float, float]:
    """Mean correlation of two labelled latents of one half, top or bottom, and of both halves.

    The first n_top latents are the top half; NaN where there is no pair.
    """
    top = np.arange(len(correlation)) < n_top
    alike = correlation[(top[:, None] == top) & ~np.eye(len(top), dtype=bool)]
    across = correlation[top[:, None] != top]
    means = [float(values.mean()) if values.size else np.nan for values in (alike, across)]
    return means[0], means[1]


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
        measured: of it on the text.
        labels: of `measured.chosen.latents`.
        others: names and decoder rows of the SAEs that it is compared with.
        model, text, settings: whose residual stream, on which sample, and what is shown of it.

    Raises:
        ValueError: for decoder rows of another width than the residual stream.
    """
    h, stats, k, sample = measured.h, measured.statistics, settings.related, text.sample
    by_interval = settings.intervals, settings.interval_contexts
    groups, rows = slots(h, sample, settings.top_contexts, *by_interval, settings.random_contexts)
    judged = np.where(stats.firings >= settings.least_firings, stats.selectivity, np.nan)
    W_dec = np.asarray(params.W_dec)
    return Dashboard(
        name=name,
        coords=coords,
        sample=sample,
        firings=stats.firings,
        highest=stats.highest,
        mean=stats.mean.astype(np.float32),
        selectivity=judged.astype(np.float32),
        dead=stats.highest <= settings.dead_threshold,
        histogram=histograms(h, stats.highest, settings.bins),
        groups=groups,
        rows=rows,
        before=settings.before,
        after=settings.after,
        activations=surroundings(h, sample, rows, settings.before, settings.after),
        effects=token_effects(model, W_dec, k, settings.bins),
        correlated=most_correlated(np.asarray(correlations(h)), k),
        neighbours=neighbours(W_dec, k),
        elsewhere=tuple(elsewhere(W_dec, *other) for other in others),
        labels=dict(zip(measured.chosen.latents.tolist(), labels, strict=True)),
    )
