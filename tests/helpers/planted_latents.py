"""A text of known classes, and latents that fire on them."""

import numpy as np

from saejax.interpret.background import background
from saejax.interpret.dashboard import TextSample
from saejax.interpret.offline import OfflineLabeller

LENGTH = 64
WORDS = [
    f" {a}{b}{c}" for a in "bdfgklmnprst" for b in ("a", "e", "io") for c in ("n", "rk", "lt", "sh")
]
VOCABULARY = (
    *WORDS,
    *(word.title() for word in WORDS[:40]),
    *(word.strip() for word in WORDS[40:80]),
    *(str(i) for i in range(10)),
    *(f" {i}" for i in range(10, 20)),
    ".",
    ",",
    " (",
    ")",
    ":",
    '"',
    "_",
    " =",
    "\n",
    "\n\n",
    "    ",
    "        ",
    " import",
    "import",
    " Import",
    " imports",
    " imported",
    " importing",
    " Washington",
    " WASHINGTON",
    "washington",
    "</script>",
    " walking",
    " talking",
    " wishing",
    " catching",
    " reading",
    " singing",
    " boxing",
    " waiting",
    "é",
    "\ufffd",
    "\u202e",
    " NASA",
    " EU",
    "HTTP",
    " USB",
    " GNU",
    " JSON",
)


def text(n_sequences=600, seed=0):
    rng = np.random.default_rng(seed)
    # Frequencies as in real text: a few tokens are most of it.
    p = 1 / (5 + rng.permutation(len(VOCABULARY)))
    tokens = rng.choice(len(VOCABULARY), n_sequences * LENGTH, p=p / p.sum())
    return TextSample(tokens, np.arange(0, len(tokens) + 1, LENGTH), VOCABULARY)


SAMPLE = text()
BACKGROUND = background(SAMPLE)
LABELLER = OfflineLabeller(BACKGROUND)
TEXTS = np.array(VOCABULARY, object)[SAMPLE.tokens]
