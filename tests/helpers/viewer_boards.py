"""Dashboards of SAEs that were never trained, for the tests of the viewer."""

import base64
import re
import zlib

import numpy as np

from saejax.interpret.dashboard import (
    Dashboard,
    Elsewhere,
    Group,
    Related,
    TextSample,
    TokenEffects,
)
from saejax.interpret.evidence import Label

# Texts that would run, turn the page around or break its script, were they taken for more than
# text.
HOSTILE = (
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "javascript:window.hacked=1",
    "__proto__",
    "\u202eevil",
    "\ud800",
    "nul\0nul",
    "<!--<script>",
    "\u2028\u2029",
    "'\"`${window.hacked=1}&lt;&#60;",
    "\n",
    "\t",
    "",
)
WORDS = (
    " the",
    " of",
    " Washington",
    " Earth",
    " ran",
    "ning",
    ",",
    ".",
    " a",
    " Paris",
    " 19",
    "63",
    "  ",
)


def vocabulary(n_tokens=64):
    """Hostile texts first, then words, then made-up ones."""
    known = (*HOSTILE, *WORDS)
    return (*known, *(f" w{i:03d}" for i in range(n_tokens - len(known))))


def sample(n_rows=2000, length=50, n_tokens=64, seed=0):
    """Random tokens in sequences of one length."""
    tokens = np.random.default_rng(seed).integers(0, n_tokens, n_rows)
    bounds = np.append(np.arange(0, n_rows, length), n_rows)
    return TextSample(tokens, bounds, vocabulary(n_tokens))


def board(
    name="toy_ratio-4",
    d_sae=300,
    others=(),
    text=None,
    slots=(6, 4, 4),
    around=5,
    k=5,
    bins=12,
    **more,
):
    """A dashboard of random numbers that agree with each other.

    Latent 3 is dead and never active, latent 5 is dead and active below the threshold of 0.07.
    Latent 7 is called by the hostile texts, 8 is polysemantic, 9 has a label of plain words.

    Args:
        name: of the SAE.
        d_sae: its latents.
        others: name and number of latents of the other SAEs.
        text: the sample; default: `sample()`.
        slots: contexts of each of three groups.
        around: tokens before and behind.
        k: tokens and latents in every list.
        bins: of the histograms.
        more: fields in place of those that are made.
    """
    rng = np.random.default_rng(d_sae)
    text = sample() if text is None else text
    n_rows, n_tokens, width = len(text.tokens), len(text.vocabulary), 2 * around + 1
    highest = rng.uniform(1, 20, d_sae).astype(np.float32)
    firings = np.minimum(rng.geometric(0.01, d_sae) + 20, n_rows)
    dead = np.zeros(d_sae, bool)
    dead[3:6:2] = True
    highest[3], firings[3], highest[5] = 0.0, 0, 0.05
    rows = rng.integers(0, n_rows, (d_sae, sum(slots)), dtype=np.int32)
    rows[3] = -1
    rows[::4, -1] = -1
    activations = rng.random((d_sae, sum(slots), width), np.float32)
    np.maximum(activations * 4 - 3, 0, out=activations)
    activations[:, :, around] = rng.uniform(0.3, 1, rows.shape)
    activations[:, 0, around] = 1
    activations *= highest[:, None, None]
    activations[rows < 0] = 0
    start = text.bounds[np.searchsorted(text.bounds, rows, "right") - 1]
    end = text.bounds[np.minimum(np.searchsorted(text.bounds, rows, "right"), len(text.bounds) - 1)]
    offset = rows[:, :, None] + np.arange(-around, around + 1)
    np.multiply(
        activations, (offset >= start[..., None]) & (offset < end[..., None]), out=activations
    )
    histogram = rng.poisson(3, (d_sae, bins))
    histogram[3] = 0
    mean = np.where(firings > 0, highest * 0.4, 0.0).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        selectivity = np.where(firings >= 10, mean / np.log(firings + 1), np.nan).astype(np.float32)
    gains = -np.sort(-rng.random((d_sae, k), np.float32), axis=1)
    fields = {
        "name": name,
        "coords": {"model": "toy", "ratio": 4, "l1": 0.01, "resample": True},
        "sample": text,
        "firings": firings,
        "highest": highest,
        "mean": mean,
        "selectivity": selectivity,
        "dead": dead,
        "histogram": histogram,
        "groups": (
            Group("strongest", 0, slots[0]),
            Group("half of the highest", slots[0], slots[0] + slots[1]),
            Group("at random", slots[0] + slots[1], sum(slots)),
        ),
        "rows": rows,
        "before": around,
        "after": around,
        "activations": activations,
        "effects": TokenEffects(
            promoted=rng.integers(0, n_tokens, (d_sae, k)),
            gains=gains,
            suppressed=rng.integers(0, n_tokens, (d_sae, k)),
            losses=-gains,
            histogram=rng.poisson(4, (d_sae, bins)),
            span=np.stack([-1 - gains[:, 0], 1 + gains[:, 0]], axis=1),
        ),
        "correlated": Related(rng.integers(-1, d_sae, (d_sae, k)), gains),
        "neighbours": Related(rng.integers(0, d_sae, (d_sae, k)), gains),
        "elsewhere": tuple(
            Elsewhere(other, rng.integers(0, n, d_sae), rng.random(d_sae, np.float32))
            for other, n in others
        ),
        "labels": {
            7: Label("".join(HOSTILE[:5]), "<b>labeller</b>"),
            8: Label(None, "statistics"),
            9: Label("capital cities", "statistics"),
        },
    }
    return Dashboard(**fields | more)


BLOCK = re.compile(
    r'<script type="application/octet-stream" id="([a-z0-9-]+)">([A-Za-z0-9+/=]*)</script>'
)


def decoded(page):
    """The blocks of a page, by name."""
    return {
        name: zlib.decompress(base64.b64decode(content))
        for name, content in BLOCK.findall(page.read_text(encoding="utf-8"))
    }
