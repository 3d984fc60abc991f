"""Everything a feature viewer shows of one SAE, as arrays."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from saejax.interpret.evidence import Label


class TextSample(NamedTuple):
    """Sequences of tokens on which latents are measured, one after the other.

    Attributes:
        tokens: their ids, row by row.
        bounds: the row at which each sequence begins, and at the end the number of rows.
        vocabulary: the text of every token id.
    """

    tokens: Int[np.ndarray, " rows"]
    bounds: Int[np.ndarray, " sequences_and_end"]
    vocabulary: tuple[str, ...]


class Group(NamedTuple):
    """Contexts that are shown together: the slots from `first` to before `last`."""

    name: str
    first: int
    last: int


class TokenEffects(NamedTuple):
    """A latent's effect on the logits of the next token; see `saejax.interpret.effects`.

    Attributes:
        promoted: ids of the tokens that gain most, the most first.
        gains: by how much, up to a factor.
        suppressed: ids of the tokens that lose most, the most first.
        losses: their (negative) change.
        histogram: of the changes of all tokens, equal bins over `span`.
        span: lowest and highest change.
    """

    promoted: Int[np.ndarray, "d_sae k"]
    gains: Float[np.ndarray, "d_sae k"]
    suppressed: Int[np.ndarray, "d_sae k"]
    losses: Float[np.ndarray, "d_sae k"]
    histogram: Int[np.ndarray, "d_sae bins"]
    span: Float[np.ndarray, "d_sae 2"]


class Related(NamedTuple):
    """The latents closest to each latent, closest first, and their correlations or cosines.

    Where there are fewer than k, the others are -1.
    """

    latents: Int[np.ndarray, "d_sae k"]
    values: Float[np.ndarray, "d_sae k"]


class Elsewhere(NamedTuple):
    """The latent of another SAE, given by name, that is closest to each latent, and its cosine."""

    name: str
    latents: Int[np.ndarray, " d_sae"]
    mcs: Float[np.ndarray, " d_sae"]


class Dashboard(NamedTuple):
    """One SAE on a sample of text.

    Attributes:
        name: of the SAE, unlike any other's of the sweep and fit for a file name.
        coords: its coordinates.
        sample: the text.
        firings: number of tokens at which each latent is above 0.
        highest: largest activation.
        mean: over the firings; 0 where there are none.
        selectivity: `mean / ln(firings + 1)`; NaN for a latent with too few firings to judge.
        dead: never above the study's threshold.
        histogram: of the activations above 0, equal bins from 0 to `highest`.
        groups: contexts that are shown together: the strongest, by interval, at random.
        rows: rows of the sample that are shown; -1 for an empty slot.
        before: tokens shown before each of these rows; cut where the sequence begins.
        after: tokens shown behind it, likewise.
        activations: of the latent at the tokens around each row; 0 outside its sequence.
        effects: on the logits.
        correlated: latents whose activations correlate most (Pearson, over all tokens).
        neighbours: latents of this SAE with the closest decoder rows (cosine).
        elsewhere: closest latents of the other SAEs.
        labels: by latent.
    """

    name: str
    coords: Mapping[str, Any]
    sample: TextSample
    firings: Int[np.ndarray, " d_sae"]
    highest: Float[np.ndarray, " d_sae"]
    mean: Float[np.ndarray, " d_sae"]
    selectivity: Float[np.ndarray, " d_sae"]
    dead: Bool[np.ndarray, " d_sae"]
    histogram: Int[np.ndarray, "d_sae bins"]
    groups: tuple[Group, ...]
    rows: Int[np.ndarray, "d_sae slots"]
    before: int
    after: int
    activations: Float[np.ndarray, "d_sae slots width"]
    effects: TokenEffects
    correlated: Related
    neighbours: Related
    elsewhere: tuple[Elsewhere, ...]
    labels: Mapping[int, Label]
