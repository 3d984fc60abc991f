"""How often each rule holds anywhere in a text: what the contexts of a latent are compared with."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from saejax.core.checks import check_whole
from saejax.interpret.dashboard import TextSample
from saejax.interpret.rules import ATTACHED, PIECES, Rule, any_case, pair_classes, readings

# From the active token to the one that a rule looks at.
SHIFTS = {"at": 0, "after": -1, "before": 1}


@dataclass(frozen=True)
class Background:
    """Counts over all rows of a sample; made by `background`.

    Args:
        near: how many tokens before a row are near it.
        texts: number of each row's text among the different texts.
        first: rows at which a sequence begins.
        pairs: rows in each class that depends on the token before.
        members: by reading and value, the numbers of the texts that have it.
        counts: by rule, the rows at which it holds.
    """

    near: int
    texts: Int64[np.ndarray, " rows"]
    first: Bool[np.ndarray, " rows"]
    pairs: Mapping[str, Bool[np.ndarray, " rows"]]
    members: Mapping[tuple[str, str], list[int]]
    counts: Mapping[tuple[str, str, str], int]

    def share(self, rule: Rule) -> float:
        """Share of rows at which a rule holds, as if it held at one row more.

        What occurs in contexts, but not in the sample, is rare and not impossible.
        """
        return float(self.counts.get(rule, 0) + 1) / (len(self.texts) + 1)

    def repeat(self, rule: Rule, where: str) -> float:
        """Chance that two rows that obey a rule have one text at `where`; 0 where none obeys it.

        For a rule about what is near, it is the chance for any two rows.

        Args:
            rule: not "first".
            where: "at" the row, or where the rule looks.
        """
        n = len(self.texts)
        rows = np.arange(n)
        if rule.where != "near":
            seen = np.flatnonzero(self._reads(rule))
            rows = seen - SHIFTS[rule.where]
            # The later one of the two must not begin a sequence.
            inside = (rows >= 0) & (rows < n)
            later = np.clip(np.maximum(rows, seen), 0, n - 1)
            rows = rows[inside & ((rows == seen) | ~self.first[later])]
        counts = np.bincount(self.texts[rows + SHIFTS[where]]).astype(np.float64)
        return float((counts**2).sum() / max(counts.sum(), 1.0) ** 2)

    def _reads(self, rule: Rule) -> Bool[np.ndarray, " rows"]:
        """Rows at whose token a rule's value is read."""
        if rule.reading == "class" and rule.value in self.pairs:
            return self.pairs[rule.value]
        has = np.zeros(int(self.texts.max()) + 1, bool)
        has[self.members.get((rule.reading, rule.value), [])] = True
        return has[self.texts]


def background(sample: TextSample, near: int = 8) -> Background:
    """How often every rule holds at the rows of a sample.

    Args:
        sample: text, the more the better: the share of what occurs once is not well known.
        near: tokens before a row that are near it.

    Raises:
        ValueError: for no text, bounds that are not those of sequences, a token without a text, and
            a `near` below 1.
    """
    near = check_whole("near", near, "a whole number, 1 or more", lambda v: v >= 1)
    bounds = np.asarray(sample.bounds, np.int64)
    n = len(sample.tokens)
    if not n or len(bounds) < 2 or bounds[0] or bounds[-1] != n or (np.diff(bounds) < 1).any():
        raise ValueError(
            f"sample: got {n} tokens and bounds from {bounds[:1]} to {bounds[-1:]}, allowed: 1 or "
            "more tokens, bounds that rise from 0 to their number"
        )
    present, token = np.unique(sample.tokens, return_inverse=True)
    if present[0] < 0 or present[-1] >= len(sample.vocabulary):
        raise ValueError(
            f"sample: got tokens {present[0]} to {present[-1]}, allowed: those of the vocabulary, "
            f"from 0 to {len(sample.vocabulary) - 1}"
        )
    # Several tokens may have one text, such as parts of characters.
    texts = sorted({sample.vocabulary[i] for i in present})
    numbers = _numbers(texts)
    ids = np.array([numbers[sample.vocabulary[i]] for i in present])[token]

    first, last = np.zeros((2, n), bool)
    first[bounds[:-1]] = True
    last[bounds[1:] - 1] = True
    pairs = _pairs(ids, texts, first)
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, text in enumerate(texts):
        for reading in readings(text, "at"):
            members[reading].append(i)
    counts: dict[tuple[str, str, str], int] = {("first", "", ""): len(bounds) - 1}
    for where, rows in (("at", np.ones(n, bool)), ("after", ~last), ("before", ~first)):
        occurrences = np.bincount(ids[rows], minlength=len(texts)).tolist()
        for reading, having in members.items():
            counts[where, *reading] = sum(occurrences[i] for i in having)
        for name, held in pairs.items():
            counts[where, "class", name] = int((rows & held).sum())
    words = [any_case(text) for text in texts]
    numbers = _numbers(words)
    word_of_text = np.array([numbers[word] for word in words])
    for word, count in zip(numbers, _near(word_of_text[ids], bounds, near), strict=True):
        counts["near", "any case", word] = int(count)
    return Background(near, ids, first, pairs, dict(members), counts)


def _numbers(texts: Sequence[str]) -> dict[str, int]:
    return {text: i for i, text in enumerate(dict.fromkeys(texts))}


def _pairs(
    ids: Int64[np.ndarray, " rows"], texts: list[str], first: Bool[np.ndarray, " rows"]
) -> dict[str, Bool[np.ndarray, " rows"]]:
    """Rows in each of the classes that depend on the token before."""
    pairs, pair = np.unique(ids[:-1] * len(texts) + ids[1:], return_inverse=True)
    names = [pair_classes(texts[p // len(texts)], texts[p % len(texts)]) for p in pairs]
    in_class = {name: np.array([name in of for of in names], bool) for name in (PIECES, ATTACHED)}
    return {name: np.append(False, held[pair]) & ~first for name, held in in_class.items()}


def _near(
    words: Int64[np.ndarray, " rows"], bounds: Int64[np.ndarray, " bounds"], near: int
) -> Int64[np.ndarray, " words"]:
    """Rows that have each word among the `near` tokens before them, in their own sequence."""
    order = np.argsort(words, kind="stable")
    again = np.full(len(words), len(words))
    same = words[order[1:]] == words[order[:-1]]
    again[order[:-1][same]] = order[1:][same]
    rows = np.arange(len(words))
    end = bounds[np.searchsorted(bounds, rows, side="right")]
    # What comes behind the next occurrence is counted there.
    reach = np.minimum(np.minimum(near, again - rows), end - 1 - rows)
    return np.bincount(words, reach).astype(np.int64)
