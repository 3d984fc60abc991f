"""The default labeller: one rule about tokens that explains where a latent is active, or none."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from saejax.core.checks import check_number_fields, check_whole
from saejax.interpret.background import SHIFTS, Background
from saejax.interpret.evidence import Context, Evidence, Label
from saejax.interpret.labeller import Progress, check_evidence
from saejax.interpret.rules import Rule, rules_of

NAME = "offline"
# Of rules that explain equally much, the one that is said in fewest words comes first.
ORDER = ("exact", "any case", "forms", "class", "ending", "")


@dataclass(frozen=True)
class OfflineSettings:
    """When a rule is a latent's theme.

    Args:
        min_precision: least share of the contexts that obey the rule. At 0.8 a latent that is
            active on two unrelated tokens alike passes less than once in a hundred times with 20
            contexts.
        min_lift: least ratio of this share to that of all text. A class that is almost half of the
            text says nothing.
        max_p: highest chance that as many confirming contexts would obey the rule if they were
            drawn from all text. Two rules at most are put to this test for a latent, so that one
            without a theme gets a label once in a hundred times or less.
        max_repeat: how much more often than at all places that obey the rule two contexts may have
            the same token where the rule leaves it open. Above, the latent is active on a list of a
            few tokens (of five, two contexts have the same in 0.2 of the cases), which obey the
            rule for reasons of their own.
        least_contexts: different contexts below which nothing can be confirmed, and a latent counts
            as polysemantic.

    Raises:
        ValueError: naming the argument, the value got and what is allowed.
    """

    min_precision: float = 0.8
    min_lift: float = 2.0
    max_p: float = 0.005
    max_repeat: float = 0.15
    least_contexts: int = 6

    def __post_init__(self) -> None:
        rules = (
            ("min_precision", "above 0.5, up to 1 (a number)", lambda v: 0.5 < v <= 1),
            ("min_lift", "1 or more (a number)", lambda v: v >= 1),
            ("max_p", "above 0, below 1 (a number)", lambda v: 0 < v < 1),
            ("max_repeat", "0 to 1 (a number)", lambda v: 0 <= v <= 1),
        )
        check_number_fields(self, rules)
        allowed = "a whole number, 4 or more"
        least = check_whole("least_contexts", self.least_contexts, allowed, lambda v: v >= 4)
        object.__setattr__(self, "least_contexts", least)


class Finding(NamedTuple):
    """The rule that is a latent's theme, None where no rule is, and what speaks for it.

    `precision` is the share of the confirming contexts that obeys it, and `background` that of all
    text; NaN without a rule. `contexts` is the number of different contexts, half of which confirm.
    """

    rule: Rule | None
    precision: float
    background: float
    contexts: int


@dataclass(frozen=True)
class OfflineLabeller:
    """Labels from the statistics of tokens and contexts: no network, the same at every call.

    Every second context, by strength, is for choosing: of the rules (`saejax.interpret.rules`) that
    hold in enough of them, the one that says most, by the information in nats of a context

        p ln(p / q) + (1 - p) ln((1 - p) / (1 - q))

    with p the share of the contexts that obey it and q that of all text. The other contexts confirm
    it or not: a rule that was found by searching would otherwise fit the contexts it was found in.
    A rule that names a token is preferred; a wider one is looked for where none of these is
    confirmed. A latent without a confirmed rule is polysemantic, as far as this labeller can see:
    it knows spelling and neighbours, not meaning, so it misses themes of meaning.

    Contexts should be from different sequences. Contexts with the same tokens count once.

    Args:
        background: of the text from which the contexts are.
        settings: when a rule is a theme.
    """

    background: Background
    settings: OfflineSettings = OfflineSettings()

    @property
    def name(self) -> str:
        return NAME

    def describe(self) -> dict[str, Any]:
        """Settings to write down beside the results."""
        text = {"near": self.background.near, "rows": len(self.background.texts)}
        return {"labeller": self.name, **text, **asdict(self.settings)}

    def label(self, evidence: Sequence[Evidence], progress: Progress | None = None) -> list[Label]:
        """A label for every latent; arguments and errors as in `labeller.Labeller`."""
        check_evidence(evidence)
        labels = []
        for one in evidence:
            rule = self.explain(one).rule
            labels.append(Label(None if rule is None else rule.text, self.name))
            if progress is not None:
                progress(len(labels), len(evidence))
        return labels

    def explain(self, evidence: Evidence) -> Finding:
        """The rule behind a latent's label, with the numbers that speak for it."""
        check_evidence([evidence])
        contexts = list({(c.tokens, c.at): c for c in evidence.contexts}.values())
        if len(contexts) >= self.settings.least_contexts:
            held = [rules_of(context, self.background.near) for context in contexts]
            choosing, confirming = held[::2], held[1::2]
            for named in (True, False):
                rule = self._best(choosing, contexts, named)
                if rule is not None and self._confirmed(rule, confirming):
                    precision = float(np.mean([rule in rules for rules in confirming]))
                    return Finding(rule, precision, self.background.share(rule), len(contexts))
        return Finding(None, np.nan, np.nan, len(contexts))

    def _best(self, held: list[set[Rule]], contexts: list[Context], named: bool) -> Rule | None:
        """The rule that says most of the contexts for choosing."""
        counts = Counter(rule for rules in held for rule in rules if rule.named is named)
        ranked = [
            (-round(_information(count / len(held), self.background.share(rule)), 9), rule)
            for rule, count in counts.items()
            if self._enough(rule, count, len(held)) and not self._is_list(rule, contexts)
        ]
        best = min(ranked, key=lambda p: (p[0], ORDER.index(p[1].reading), p[1]), default=None)
        return None if best is None else best[1]

    def _enough(self, rule: Rule, count: int, n: int) -> bool:
        """Whether so many of n contexts obey a rule that it may be a theme."""
        # Less a little, since 0.8 of 5 is more than 4 by rounding.
        precise = count >= self.settings.min_precision * n - 1e-9
        return precise and count / n >= self.settings.min_lift * self.background.share(rule)

    def _confirmed(self, rule: Rule, held: list[set[Rule]]) -> bool:
        count = sum(rule in rules for rules in held)
        test = stats.binomtest(count, len(held), self.background.share(rule), alternative="greater")
        return self._enough(rule, count, len(held)) and bool(test.pvalue <= self.settings.max_p)

    def _is_list(self, rule: Rule, contexts: list[Context]) -> bool:
        """Whether a rule seems to hold only because a few tokens that obey it come repeatedly."""
        held = [c for c in contexts if rule in rules_of(c, self.background.near)]
        pairs = max(len(held) * (len(held) - 1), 1)
        for where in rule.open_at:
            tokens = Counter(c.tokens[c.at + SHIFTS[where]] for c in held)
            repeat = sum(n * (n - 1) for n in tokens.values()) / pairs
            if repeat > self.background.repeat(rule, where) + self.settings.max_repeat:
                return True
        return False


def _information(p: float, q: float) -> float:
    """Kullback-Leibler divergence of two shares, in nats."""
    rest = (1 - p) * np.log((1 - p) / (1 - q)) if p < 1 else 0.0
    return float(p * np.log(p / q) + rest)
