"""The contexts of a latent: which are shown, as words and as arrays."""

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

    The activations h of all latents on the sample are those of `saejax.interpret.activity`; a
    context has at most so many tokens before and after its row.
    """
    bounds = sample.bounds
    windows = around(h, bounds, latent, rows, before, after)
    which = np.searchsorted(bounds, rows, side="right")
    out = []
    for row, window, low, high in zip(rows, windows, bounds[which - 1], bounds[which], strict=True):
        start = row - before
        first, last = max(low, start), min(high, row + after + 1)
        tokens = tuple(sample.vocabulary[i] for i in sample.tokens[first:last])
        activations = tuple(float(v) for v in window[first - start : last - start])
        out.append(Context(tokens, activations, int(row - first)))
    return tuple(out)


def evidence(
    h: csc_array, sample: TextSample, latent: int, n: int, before: int, after: int
) -> Evidence:
    """The n strongest contexts of a latent, one of each sequence; arguments as in `contexts`."""
    rows = strongest(h, sample.bounds, latent, n)
    return Evidence(latent, contexts(h, sample, latent, rows, before, after))


def slots(
    h: csc_array, sample: TextSample, n_top: int, intervals: int, n_interval: int, n_random: int
) -> tuple[tuple[Group, ...], Int[np.ndarray, "d_sae slots"]]:
    """The rows of the sample that a viewer shows of every latent, in groups; -1 for an empty slot.

    Args:
        h, sample: as in `contexts`.
        n_top: strongest rows, one of each sequence.
        intervals: equal intervals of activation, from 0 to the highest.
        n_interval: rows of each of them, drawn at random.
        n_random: rows drawn from all firings.
    """
    percent = 100 / intervals
    sizes = {"strongest activations": n_top}
    for i in reversed(range(intervals)):
        span = f"{percent * i:.0f} to {percent * (i + 1):.0f} %"
        sizes[f"{span} of the highest activation"] = n_interval
    sizes["random activations"] = n_random
    ends = np.cumsum([*sizes.values()])
    groups = tuple(
        Group(name, int(end - size), int(end))
        for (name, size), end in zip(sizes.items(), ends, strict=True)
    )
    rows = np.full((shape_of(h)[1], ends[-1]), -1, np.int32)
    for latent, slots_of_latent in enumerate(rows):
        chosen = [
            strongest(h, sample.bounds, latent, n_top),
            *reversed(drawn(h, latent, intervals, n_interval)),
            *drawn(h, latent, 1, n_random),
        ]
        for group, rows_of_group in zip(groups, chosen, strict=True):
            slots_of_latent[group.first : group.first + len(rows_of_group)] = rows_of_group
    return groups, rows


def surroundings(
    h: csc_array, sample: TextSample, rows: Int[np.ndarray, "d_sae slots"], before: int, after: int
) -> Float[np.ndarray, "d_sae slots width"]:
    """Every latent's activations at the tokens around its rows, as `around` has them."""
    each = enumerate(rows)
    return np.stack([around(h, sample.bounds, i, row, before, after) for i, row in each])


def histograms(
    h: csc_array, highest: Float[np.ndarray, " d_sae"], bins: int
) -> Int[np.ndarray, "d_sae bins"]:
    """Activations above 0 of every latent, in equal bins from 0 to its highest."""
    d_sae = len(highest)
    latents = np.repeat(np.arange(d_sae), np.diff(h.indptr))
    which = np.minimum((h.data / highest[latents] * bins).astype(np.int64), bins - 1)
    return np.bincount(latents * bins + which, minlength=d_sae * bins).reshape(-1, bins)
