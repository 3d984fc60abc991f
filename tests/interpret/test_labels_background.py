"""What the offline labeller counts, against plain loops, and the classes that it knows."""

from itertools import pairwise

import numpy as np
import pytest
from helpers.planted_latents import BACKGROUND, LABELLER, SAMPLE, TEXTS

from saejax.interpret.background import SHIFTS, background
from saejax.interpret.dashboard import TextSample
from saejax.interpret.evidence import Context, Evidence
from saejax.interpret.offline import OfflineSettings
from saejax.interpret.rules import ATTACHED, PIECES, Rule, classes, pair_classes, quoted, rules_of

# --- the background, against loops ---------------------------------------------------------------


def test_the_background_counts_what_a_loop_over_all_contexts_counts():
    rng = np.random.default_rng(3)
    vocabulary = (
        "a",
        " a",
        "A",
        "1",
        "12",
        "\n",
        "    ",
        " walking",
        "ing",
        ".",
        "(",
        "é",
        " BC",
        "a",
    )
    bounds = np.array([0, 1, 2, 40, 90, 91, 300])
    sample = TextSample(rng.integers(len(vocabulary), size=300), bounds, vocabulary)
    got = background(sample, near=3)
    texts = [vocabulary[i] for i in sample.tokens]
    counts, seen = {}, {}
    for low, high in pairwise(bounds):
        for row in range(low, high):
            one = Context(tuple(texts[low:high]), (0.0,) * (high - low), row - low)
            for rule in rules_of(one, 3):
                counts[rule] = counts.get(rule, 0) + 1
                for where in {"at", rule.where} - {"near", "first"}:
                    key = (rule, where) if rule.where != "near" else "any"
                    seen.setdefault(key, []).append(texts[row + SHIFTS[where]])
    assert {rule.where for rule in counts} == {"at", "after", "before", "near", "first"}
    assert {rule.value for rule in counts} >= {PIECES, ATTACHED, "digits", "indentation"}
    for rule, count in counts.items():
        assert got.share(rule) == (count + 1) / 301, rule
    del seen["any"]
    for (rule, where), tokens in seen.items():
        if rule.where != "first":
            assert got.repeat(rule, where) == pytest.approx(repeat(tokens)), rule
    near = Rule("near", "any case", "a")
    assert got.repeat(near, "at") == pytest.approx(repeat(texts))


def repeat(tokens):
    shares = np.unique(np.array(tokens, object), return_counts=True)[1] / len(tokens)
    return (shares**2).sum()


def test_what_the_sample_lacks_is_rare_and_not_impossible():
    assert BACKGROUND.share(Rule("at", "exact", "nowhere")) == 1 / (len(TEXTS) + 1)
    assert BACKGROUND.repeat(Rule("at", "ending", "zzz"), "at") == 0


@pytest.mark.parametrize(
    ("tokens", "bounds", "message"),
    [
        ([], [0], "sample: got 0 tokens"),
        ([0, 1], [0, 1], "bounds from .0. to .1., allowed: 1 or more"),
        ([0, 1], [0, 2, 2], "allowed: 1 or more tokens, bounds that rise"),
        (
            [0, 9],
            [0, 2],
            "sample: got tokens 0 to 9, allowed: those of the vocabulary, from 0 to 1",
        ),
        ([-1, 1], [0, 2], "sample: got tokens -1 to 1"),
    ],
)
def test_a_sample_that_is_none_is_refused(tokens, bounds, message):
    with pytest.raises(ValueError, match=message):
        background(TextSample(np.array(tokens, int), np.array(bounds), ("a", "b")))
    with pytest.raises(ValueError, match="near: got 0, allowed"):
        background(SAMPLE, near=0)


# --- words and settings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (" 12", {"digits"}),
        ("٣", {"digits", "characters outside ASCII"}),
        ("\n", {"white space", "line breaks"}),
        (" ", {"white space"}),
        ("\n    ", {"white space", "indentation"}),
        ("", set()),
        (" ((", {"punctuation", "opening brackets"}),
        ("'", {"punctuation", "quotation marks"}),
        ("—", {"punctuation", "characters outside ASCII"}),
        ("\ufffd", {"characters outside ASCII"}),
        (" Paris", {"capitalised words"}),
        ("USA", {"words in capitals"}),
        ("I", {"single letters"}),
        ("McX", set()),
        ("x1", set()),
        ("word", set()),
    ],
)
def test_classes_of_tokens(token, expected):
    assert classes(token) == expected


@pytest.mark.parametrize(
    ("before", "token", "expected"),
    [
        (" walk", "ing", {PIECES, ATTACHED}),
        (" walk", ".", {ATTACHED}),
        (" walk", " on", set()),
        ("\n", "def", set()),
        ("(", "x", {ATTACHED}),
        ("", "x", set()),
    ],
)
def test_classes_of_pairs(before, token, expected):
    assert pair_classes(before, token) == expected


def test_what_cannot_be_seen_is_escaped_and_what_is_long_is_cut():
    assert quoted("\u202e\n\x00\xa0") == '"\\u202e\\n\\u0000\\u00a0"'
    assert quoted("=" * 99) == '"' + "=" * 39 + '…"'
    assert quoted("\ud800") == '"\\ud800"'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_precision", 0.5),
        ("min_precision", 1.1),
        ("min_lift", 0.5),
        ("max_p", 0.0),
        ("max_p", 1.0),
        ("max_repeat", -0.1),
        ("least_contexts", 3),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: got {value}, allowed: "):
        OfflineSettings(**{name: value})


@pytest.mark.parametrize(
    ("contexts", "message"),
    [
        ((), "evidence: got no contexts of latent 7, allowed: 1 or more"),
        (
            (Context(("a",), (1.0,), 1),),
            "got context 0 of latent 7 with 1 tokens, 1 activations and at=1",
        ),
        ((Context(("a",), (), 0),), "got context 0 of latent 7 with 1 tokens, 0 activations"),
    ],
)
def test_evidence_that_cannot_be_read_is_refused(contexts, message):
    with pytest.raises(ValueError, match=message):
        LABELLER.label([Evidence(7, contexts)])
