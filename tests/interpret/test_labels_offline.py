"""The offline labeller on planted latents with known answers."""

import json

import numpy as np
import pytest
from helpers.planted_latents import BACKGROUND, LABELLER, LENGTH, TEXTS, VOCABULARY, WORDS, text

from saejax.interpret.background import background
from saejax.interpret.dashboard import TextSample
from saejax.interpret.evidence import Context, Evidence
from saejax.interpret.labeller import Labeller
from saejax.interpret.offline import OfflineLabeller, OfflineSettings
from saejax.interpret.rules import PIECES, Rule, pair_classes

ROWS = np.arange(len(TEXTS))
PLACE = ROWS % LENGTH
PREVIOUS = np.where(PLACE > 0, np.roll(TEXTS, 1), None)
NEXT = np.where(PLACE < LENGTH - 1, np.roll(TEXTS, -1), None)


def context(row, before=12, after=4):
    start = row - row % LENGTH
    low, high = max(start, row - before), min(start + LENGTH, row + after + 1)
    activations = tuple(float(i == row) for i in range(low, high))
    return Context(tuple(TEXTS[low:high]), activations, row - low)


def evidence(active, n=24, seed=0, noise=0.0):
    """Contexts at rows drawn from those that are active, at most one a sequence, some of them
    wrong."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(active))
    _, first = np.unique(rows // LENGTH, return_index=True)
    rows = rows[np.sort(first)[:n]]
    wrong = rng.random(len(rows)) < noise
    rows = np.where(wrong, rng.integers(len(TEXTS), size=len(rows)), rows)
    return Evidence(seed, tuple(context(row) for row in rows))


def label(active, **kind):
    return LABELLER.label([evidence(active, **kind)])[0].text


def is_in(values, texts=TEXTS):
    return np.isin(texts.astype(str), list(values))


# --- planted latents -----------------------------------------------------------------------------

DIGITS = is_in([t for t in VOCABULARY if t.strip().isdigit()])
CAPITALISED = [
    t for t in VOCABULARY if t.strip().isalpha() and t.strip().istitle() and len(t.strip()) > 1
]
CAPITALS = [" NASA", " EU", "HTTP", " USB", " GNU", " JSON"]
ATTACHED_LETTERS = [
    PIECES in pair_classes(a or "", b) for a, b in zip(PREVIOUS, TEXTS, strict=True)
]
PLANTED = {
    "one token": (TEXTS == " Washington", 'token " Washington"'),
    "a token in any case": (
        is_in([" Washington", " WASHINGTON", "washington"]),
        '"washington" in any case',
    ),
    "forms of a word": (
        is_in([" import", "import", " Import", " imports", " imported", " importing"]),
        'forms of "import…"',
    ),
    "the token behind another": (PREVIOUS == " import", 'after " import"'),
    "the token before another": (NEXT == " (", 'before " ("'),
    "digits": (DIGITS, "digits"),
    "behind digits": (np.roll(DIGITS, 1) & (PLACE > 0), "after digits"),
    "indentation": (is_in(["    ", "        "]), "indentation"),
    "line breaks": (is_in(["\n", "\n\n"]), "line breaks"),
    "capitalised words": (is_in(CAPITALISED), "capitalised words"),
    "words in capitals": (is_in(CAPITALS), "words in capitals"),
    "an ending": (is_in([t for t in VOCABULARY if t.endswith("ing")]), 'words ending in "ing"'),
    "punctuation": (is_in([".", ",", " (", ")", ":", '"', "_", " ="]), "punctuation"),
    "pieces of words": (np.array(ATTACHED_LETTERS), PIECES),
    "the first token": (PLACE == 0, "first token of a sequence"),
    "a rare token": (TEXTS == "\u202e", 'token "\\u202e"'),
    "a hostile token": (TEXTS == "</script>", 'token "</script>"'),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_latent_gets_its_label(name):
    active, expected = PLANTED[name]
    assert label(active) == expected


@pytest.mark.parametrize("name", ["one token", "the token behind another", "digits"])
def test_a_few_contexts_that_do_not_fit_change_no_label(name):
    active, expected = PLANTED[name]
    assert [label(active, n=40, noise=0.08, seed=s) for s in range(10)].count(expected) >= 9


def near_active(word, within=8):
    seen = np.zeros(len(TEXTS), bool)
    for k in range(1, within + 1):
        seen |= np.roll(word == TEXTS, k) & (k <= PLACE)
    return seen


def test_a_latent_of_the_text_shortly_behind_a_word_gets_that_label():
    assert label(near_active(" NASA")) == 'shortly after "nasa" in any case'


def test_ten_contexts_are_enough_for_a_token():
    assert label(TEXTS == "</script>", n=10) == 'token "</script>"'


@pytest.mark.parametrize(
    "pair",
    [
        (" ban", " Washington"),
        (" Ban", " Dash"),
        (" NASA", "_"),
        (" NASA", " EU"),
        (".", " walking"),
        (" walking", " boxing"),
    ],
)
def test_two_unrelated_tokens_are_no_theme(pair):
    got = [label(is_in(pair) & balanced(pair), n=30, seed=s) for s in range(20)]
    assert got.count(None) >= 19


def balanced(tokens):
    """Rows of tokens in equal numbers, whatever their frequency in the text."""
    rng = np.random.default_rng(1)
    least = min((token == TEXTS).sum() for token in tokens)
    keep = np.zeros(len(TEXTS), bool)
    for token in tokens:
        keep[rng.permutation(np.flatnonzero(token == TEXTS))[:least]] = True
    return keep


def test_a_handful_of_capitalised_words_is_a_list_and_no_class():
    few = [" Ban", " Dark", " Felt", " Gash"]
    assert set(few) <= set(CAPITALISED)
    assert label(is_in(few) & balanced(few), n=32) is None


def test_two_tokens_that_always_follow_the_same_class_are_no_theme():
    # Digits and brackets come before these two more often than not, before others too.
    pair = is_in([" NASA", " walking"]) & np.roll(DIGITS, 1) & (PLACE > 0)
    got = [label(pair, n=30, seed=s) for s in range(5)]
    assert got == [None] * 5


@pytest.mark.parametrize("n", [6, 20])
def test_random_latents_get_a_label_once_in_a_hundred_times_at_most(n):
    everywhere = np.ones(len(TEXTS), bool)
    got = LABELLER.label([evidence(everywhere, n=n, seed=s) for s in range(200)])
    assert sum(one.text is not None for one in got) <= 4


def test_random_latents_on_random_lists_of_tokens_are_polysemantic():
    rng = np.random.default_rng(2)
    got = []
    for seed in range(60):
        tokens = rng.choice(VOCABULARY, 8, replace=False)
        got.append(evidence(is_in(tokens) & balanced(tokens), n=24, seed=seed))
    assert sum(one.text is not None for one in LABELLER.label(got)) <= 2


def test_a_rule_that_holds_in_the_choosing_half_alone_is_no_theme():
    fits, misses = evidence(TEXTS == " Washington").contexts, evidence(DIGITS).contexts
    mixed = tuple(c for both in zip(fits[:10], misses[:10], strict=True) for c in both)
    assert LABELLER.explain(Evidence(0, mixed)).rule is None
    assert LABELLER.explain(Evidence(0, mixed)).contexts == 20


def test_the_same_context_many_times_confirms_nothing():
    once = evidence(TEXTS == " Washington").contexts[:2]
    got = LABELLER.explain(Evidence(0, once * 10))
    assert got.rule is None
    assert got.contexts == 2


def capitalised(n_others, n):
    """A text of 18 capitalised words and others, evenly, and contexts of the capitalised ones."""
    words = tuple(f" {a}{b}".title() for a in "bcdfgh" for b in ("ab", "ec", "id"))
    vocabulary = (*words, *[f" {a}{b}" for a in "bcdfghkl" for b in "1234"][:n_others])
    tokens = np.random.default_rng(0).integers(len(vocabulary), size=6400)
    texts = np.array(vocabulary, object)[tokens]
    rows = [r for r in range(20, 6000, 64) if texts[r] in words][:n]
    contexts = tuple(Context(tuple(texts[r - 9 : r + 3]), (1.0,) * 12, 9) for r in rows)
    return background(TextSample(tokens, np.arange(0, 6401, 64), vocabulary)), Evidence(0, contexts)


def test_a_class_that_is_most_of_the_text_says_nothing():
    seen, given = capitalised(n_others=12, n=40)
    assert OfflineLabeller(seen).explain(given).rule is None
    lenient = OfflineLabeller(seen, OfflineSettings(min_lift=1.0))
    assert lenient.explain(given).rule == Rule("at", "class", "capitalised words")


def test_a_few_contexts_do_not_confirm_a_common_class():
    seen, given = capitalised(n_others=32, n=8)
    assert OfflineLabeller(seen).explain(given).rule is None
    lenient = OfflineLabeller(seen, OfflineSettings(max_p=0.1))
    assert lenient.explain(given).rule == Rule("at", "class", "capitalised words")


def test_of_rules_that_all_contexts_obey_the_rarer_says_more():
    rare, common = sorted((".", " NASA"), key=lambda t: BACKGROUND.share(Rule("at", "exact", t)))
    for before, after, expected in (
        (common, rare, f'before "{rare}"'),
        (rare, common, f'after "{rare}"'),
    ):
        contexts = tuple(Context((before, word, after), (0.0, 1.0, 0.0), 1) for word in WORDS[:12])
        assert LABELLER.label([Evidence(0, contexts)])[0].text == expected


def test_a_finding_says_how_well_the_rule_fits():
    got = LABELLER.explain(evidence(TEXTS == " Washington"))
    assert got.rule == Rule("at", "exact", " Washington")
    assert got.precision == 1
    assert got.background == ((TEXTS == " Washington").sum() + 1) / (len(TEXTS) + 1)
    assert got.contexts == 24


def test_labels_are_the_same_at_every_call_and_progress_is_told():
    given = [evidence(active, seed=i) for i, (active, _) in enumerate(PLANTED.values())]
    told = []
    first = LABELLER.label(given, progress=lambda done, n: told.append((done, n)))
    assert first == OfflineLabeller(background(text())).label(given)
    assert told == [(i + 1, len(given)) for i in range(len(given))]
    assert {one.labeller for one in first} == {"offline"}


def test_the_offline_labeller_is_a_labeller_that_can_be_written_down():
    assert isinstance(LABELLER, Labeller)
    described = json.loads(json.dumps(LABELLER.describe()))
    assert described["min_precision"] == 0.8
    assert described["near"] == 8
