"""The contexts of a latent: which are shown, and as words."""

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csc_array

from saejax.interpret.activity import around, drawn, shape_of, strongest
from saejax.interpret.dashboard import Group, TextSample
from saejax.interpret.evidence import Context, Evidence


def contexts(
    h: csc_array,
    sample: TextSample,
    latent: int,
    rows: Int[np.ndarray, " n"],
    before: int,
    after: int,
) -> tuple[Context, ...]:
    """Tokens around some rows, with a latent's activations; cut at the ends of a row's sequence.

    Args:
        h: of `saejax.interpret.activity.activity`.
        sample: the text.
        latent: its number.
        rows: of the sample.
        before: tokens before each of them, at most.
        after: tokens behind it, at most.
    """
    bounds = sample.bounds
    values = around(h, bounds, latent, rows, before, after)
    which = np.searchsorted(bounds, rows, side="right")
    out = []
    for row, own, low, high in zip(rows, values, bounds[which - 1], bounds[which], strict=True):
        first, last = max(low, row - before), min(high, row + after + 1)
        tokens = tuple(sample.vocabulary[i] for i in sample.tokens[first:last])
        kept = own[first - (row - before) : last - (row - before)]
        out.append(Context(tokens, tuple(float(v) for v in kept), int(row - first)))
    return tuple(out)


def evidence(
    h: csc_array, sample: TextSample, latent: int, n: int, before: int, after: int
) -> Evidence:
    """The strongest contexts of a latent, one of each sequence, for a labeller.

    Arguments as in `contexts`; n contexts at most.
    """
    rows = strongest(h, sample.bounds, latent, n)
    return Evidence(latent, contexts(h, sample, latent, rows, before, after))


def slots(
    h: csc_array, sample: TextSample, n_top: int, intervals: int, n_interval: int, n_random: int
) -> tuple[tuple[Group, ...], Int[np.ndarray, "d_sae slots"]]:
    """Rows that a viewer shows of every latent: the strongest, some by activation, some at random.

    Args:
        h: as in `contexts`.
        sample: the text.
        n_top: of the strongest, one of each sequence.
        intervals: equal intervals of activation, from 0 to the highest.
        n_interval: rows of each of them.
        n_random: rows drawn from all firings.

    Returns:
        The groups of slots, and the rows, -1 where there are fewer.
    """
    share = 100 / intervals
    names = [
        f"{share * i:.0f} to {share * (i + 1):.0f} % of the highest activation"
        for i in reversed(range(intervals))
    ]
    sizes = [n_top, *[n_interval] * intervals, n_random]
    ends = np.cumsum(sizes)
    groups = tuple(
        Group(name, int(end - size), int(end))
        for name, size, end in zip(
            ["strongest activations", *names, "random activations"], sizes, ends, strict=True
        )
    )
    rows = np.full((shape_of(h)[1], ends[-1]), -1, np.int32)
    for latent in range(len(rows)):
        found = [
            strongest(h, sample.bounds, latent, n_top),
            *reversed(drawn(h, latent, intervals, n_interval)),
            *drawn(h, latent, 1, n_random),
        ]
        for group, own in zip(groups, found, strict=True):
            rows[latent, group.first : group.first + len(own)] = own
    return groups, rows


def surroundings(
    h: csc_array, sample: TextSample, rows: Int[np.ndarray, "d_sae slots"], before: int, after: int
) -> Float[np.ndarray, "d_sae slots width"]:
    """Every latent's activations at the tokens around its rows, as `around` has them."""
    pairs = enumerate(rows)
    return np.stack([around(h, sample.bounds, latent, own, before, after) for latent, own in pairs])


def histograms(
    h: csc_array, highest: Float[np.ndarray, " d_sae"], bins: int
) -> Int[np.ndarray, "d_sae bins"]:
    """Activations above 0 of every latent, in equal bins from 0 to its highest."""
    d_sae = len(highest)
    latents = np.repeat(np.arange(d_sae), np.diff(h.indptr))
    which = np.minimum((h.data / highest[latents] * bins).astype(np.int64), bins - 1)
    return np.bincount(latents * bins + which, minlength=d_sae * bins).reshape(-1, bins)
