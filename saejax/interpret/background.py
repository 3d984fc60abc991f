"""How often each rule holds anywhere in a text: what the contexts of a latent are compared with."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from saejax.core.checks import check_whole
from saejax.interpret.dashboard import TextSample
from saejax.interpret.rules import ATTACHED, PIECES, Rule, pair_classes, readings

PAIRS = (PIECES, ATTACHED)
# From the active token to the one that a rule looks at.
SHIFTS = {"at": 0, "after": -1, "before": 1}


@dataclass(frozen=True)
class Background:
    """Counts over all rows of a sample; made by `background`.

    Args:
        near: how many tokens before a row are near it.
        sequences: number of them.
        ids: number of each row's text among the different texts.
        first: rows at which a sequence begins.
        pairs: rows in the classes that depend on the token before, as in `PAIRS`.
        members: by reading, which texts have which value, both by number.
        index: by reading, the number of each value.
        counts: by (where, reading), rows at which each value is read.
    """

    near: int
    sequences: int
    ids: Int64[np.ndarray, " rows"]
    first: Bool[np.ndarray, " rows"]
    pairs: tuple[Bool[np.ndarray, " rows"], ...]
    members: Mapping[str, tuple[Int64[np.ndarray, " entries"], Int64[np.ndarray, " entries"]]]
    index: Mapping[str, Mapping[str, int]]
    counts: Mapping[tuple[str, str], Int64[np.ndarray, " values"]]

    def share(self, rule: Rule) -> float:
        """Share of rows at which a rule holds, as if it held at one row more.

        What occurs in contexts, but not in the sample, is rare and not impossible.
        """
        if rule.where == "first":
            count = self.sequences
        else:
            at = self.index[rule.reading].get(rule.value)
            count = 0 if at is None else self.counts[rule.where, rule.reading][at]
        return float(count + 1) / (len(self.ids) + 1)

    def repeat(self, rule: Rule, where: str) -> float:
        """Chance that two rows that obey a rule have one text at `where`; 0 where none obeys it.

        For a rule about what is near, it is the chance for any two rows.

        Args:
            rule: not "first".
            where: "at" the row, or where the rule looks.
        """
        n = len(self.ids)
        rows = np.arange(n)
        if rule.where != "near":
            seen = np.flatnonzero(self._read(rule))
            rows = seen - SHIFTS[rule.where]
            # The later one of the two must not begin a sequence.
            inside = (rows >= 0) & (rows < n)
            later = np.clip(np.maximum(rows, seen), 0, n - 1)
            rows = rows[inside & ((rows == seen) | ~self.first[later])]
        counts = np.bincount(self.ids[rows + SHIFTS[where]]).astype(np.float64)
        return float((counts**2).sum() / max(counts.sum(), 1.0) ** 2)

    def _read(self, rule: Rule) -> Bool[np.ndarray, " rows"]:
        """Rows at which a rule's value is read."""
        if rule.value in PAIRS and rule.reading == "class":
            return self.pairs[PAIRS.index(rule.value)]
        texts, values = self.members[rule.reading]
        has = np.zeros(int(self.ids.max()) + 1, bool)
        has[texts[values == self.index[rule.reading].get(rule.value, -1)]] = True
        return has[self.ids]


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
    present, at = np.unique(sample.tokens, return_inverse=True)
    if present[0] < 0 or present[-1] >= len(sample.vocabulary):
        raise ValueError(
            f"sample: got tokens {present[0]} to {present[-1]}, allowed: those of the vocabulary, "
            f"from 0 to {len(sample.vocabulary) - 1}"
        )
    # Several tokens may have one text, such as parts of characters.
    texts = sorted({sample.vocabulary[i] for i in present})
    number = {text: i for i, text in enumerate(texts)}
    ids = np.array([number[sample.vocabulary[i]] for i in present])[at]

    first = np.zeros(n, bool)
    first[bounds[:-1]] = True
    last = np.zeros(n, bool)
    last[bounds[1:] - 1] = True
    index, members = _readings(texts)
    pairs = _pairs(ids, texts, first)
    counts = {}
    for where, rows in (("at", np.ones(n, bool)), ("after", ~last), ("before", ~first)):
        of_text = np.bincount(ids[rows], minlength=len(texts))
        for reading, (text, value) in members.items():
            counts[where, reading] = _sum(of_text[text], value, len(index[reading]))
        for i, held in enumerate(pairs):
            counts[where, "class"][i] = (rows & held).sum()
    group = np.zeros(len(texts), np.int64)
    group[members["any case"][0]] = members["any case"][1]
    counts["near", "any case"] = _near(group[ids], bounds, near, len(index["any case"]))
    return Background(near, len(bounds) - 1, ids, first, pairs, members, index, counts)


def _readings(
    texts: list[str],
) -> tuple[dict[str, dict[str, int]], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Numbers of the values of each reading, and which text has which."""
    index: dict[str, dict[str, int]] = {"class": {name: i for i, name in enumerate(PAIRS)}}
    found: dict[str, tuple[list[int], list[int]]] = {"class": ([], [])}
    for i, text in enumerate(texts):
        for reading, value in readings(text, "at"):
            values = index.setdefault(reading, {})
            members, numbers = found.setdefault(reading, ([], []))
            members.append(i)
            numbers.append(values.setdefault(value, len(values)))
    for reading in ("forms", "ending"):
        index.setdefault(reading, {})
        found.setdefault(reading, ([], []))
    arrays = {
        name: (np.array(a, np.int64), np.array(b, np.int64)) for name, (a, b) in found.items()
    }
    return index, arrays


def _sum(values: np.ndarray, groups: np.ndarray, n: int) -> Int64[np.ndarray, " values"]:
    # Not bincount with weights, which counts in floats.
    out = np.zeros(n, np.int64)
    np.add.at(out, groups, values)
    return out


def _pairs(
    ids: Int64[np.ndarray, " rows"], texts: list[str], first: Bool[np.ndarray, " rows"]
) -> tuple[Bool[np.ndarray, " rows"], ...]:
    """Rows in each of the classes that depend on the token before."""
    pairs, at = np.unique(ids[:-1] * len(texts) + ids[1:], return_inverse=True)
    found = [pair_classes(texts[p // len(texts)], texts[p % len(texts)]) for p in pairs]
    return tuple(
        np.append(False, np.array([name in names for names in found], bool)[at]) & ~first
        for name in PAIRS
    )


def _near(
    groups: Int64[np.ndarray, " rows"], bounds: Int64[np.ndarray, " bounds"], near: int, n: int
) -> Int64[np.ndarray, " values"]:
    """Rows that have each group among the `near` tokens before them, in their own sequence."""
    order = np.argsort(groups, kind="stable")
    again = np.full(len(groups), len(groups))
    same = groups[order[1:]] == groups[order[:-1]]
    again[order[:-1][same]] = order[1:][same]
    rows = np.arange(len(groups))
    end = bounds[np.searchsorted(bounds, rows, side="right")]
    # What comes behind the next occurrence is counted there.
    reach = np.minimum(np.minimum(near, again - rows), end - 1 - rows)
    return _sum(reach, groups, n)
