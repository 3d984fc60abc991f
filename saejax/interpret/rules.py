"""Rules that may say where a latent is active: the token, what stands next to it, its class."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from saejax.interpret.evidence import Context

PIECES = "pieces of a word, attached to the letters before them"
ATTACHED = "tokens attached to the one before without a space"
# Members of these classes share little but their spelling. A latent that is active on only a few
# of them has a list of tokens for its theme, not the class.
OPEN = {"capitalised words", "words in capitals", "single letters", "characters outside ASCII"}
OPEN |= {PIECES, ATTACHED}
MARKS = {"opening brackets": "([{", "closing brackets": ")]}", "quotation marks": "\"'`“”‘’"}
ENDINGS = (2, 3, 4)
# Characters of a token that are shown.
LONGEST = 40
# In words, what a reading of a token found.
WORDS = {
    "exact": "{quoted}",
    "any case": "{quoted} in any case",
    "forms": "forms of {stem}",
    "class": "{value}",
    "ending": "words ending in {quoted}",
}


class Rule(NamedTuple):
    """A property that the place of a token in a text has or has not.

    Attributes:
        where: the token that is looked at: the one "at" the place, "after" which or "before" which
            the place is, "near" for any of the tokens shortly before it, "first" for the place
            itself.
        reading: what of this token: "exact" text, text in "any case" and without spaces around it,
            "forms" of a word, its "class", its "ending".
        value: as it was read.
    """

    where: str
    reading: str
    value: str

    @property
    def named(self) -> bool:
        """Whether the rule names a token at the place or next to it."""
        next_to = self.where in ("at", "after", "before")
        return next_to and self.reading in ("exact", "any case", "forms")

    @property
    def open_at(self) -> tuple[str, ...]:
        """Where the rule leaves the token open: any of many that have little else in common."""
        open_class = self.reading == "ending" or (self.reading == "class" and self.value in OPEN)
        at = ("at",) if self.where in ("after", "before", "near") else ()
        return (*at, self.where) if open_class else at

    @property
    def text(self) -> str:
        """The rule in words."""
        if self.where == "first":
            return "first token of a sequence"
        names = {"quoted": quoted(self.value), "stem": quoted(self.value + "…")}
        words = WORDS[self.reading].format(value=self.value, **names)
        if self.where == "at":
            return f"token {words}" if self.reading == "exact" else words
        return f"shortly after {words}" if self.where == "near" else f"{self.where} {words}"


def quoted(text: str) -> str:
    """A token between quotation marks, invisible characters escaped, cut where it is long."""
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "…"
    marks = json.dumps(text, ensure_ascii=False)
    # JSON leaves marks alone that turn the direction of writing, or have no shape.
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in marks)


def any_case(text: str) -> str:
    """A token without its case and the spaces around it; white space stays as it is."""
    return text.strip().casefold() or text


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= 3 and not (ending == "s" and rest.endswith("s")):
            word = rest
            break
    return word.removesuffix("e") if len(word) > 3 else word


def classes(text: str) -> set[str]:
    """Classes that a token belongs to by its own text, whatever stands before it."""
    core = text.strip()
    if not text:
        return set()
    if not core:
        if text[-1] in "\r\n":
            return {"white space", "line breaks"}
        return {"white space", "indentation"} if len(text) > 1 else {"white space"}
    names = set() if core.isascii() else {"characters outside ASCII"}
    if core.isdecimal():
        names.add("digits")
    # U+FFFD stands for bytes that are only part of a character.
    elif "\ufffd" not in core and not any(c.isalnum() or c.isspace() for c in core):
        names.add("punctuation")
        names |= {name for name, members in MARKS.items() if set(members).issuperset(core)}
    elif core.isalpha():
        if len(core) == 1:
            names.add("single letters")
        elif core.isupper():
            names.add("words in capitals")
        elif core[0].isupper() and core[1:].islower():
            names.add("capitalised words")
    return names


def pair_classes(before: str, text: str) -> set[str]:
    """Classes that a token belongs to by the token before it."""
    if not before or not text or before[-1].isspace() or text[0].isspace():
        return set()
    return {PIECES, ATTACHED} if before[-1].isalpha() and text[0].isalpha() else {ATTACHED}


def readings(text: str, where: str) -> Iterator[tuple[str, str]]:
    """What is read off a token's own text, as (reading, value); `where` it stands as in `Rule`.

    The active token has the most readings: every further rule is one more that may hold by chance.
    """
    word = any_case(text)
    yield "any case", word
    if where == "near":
        return
    yield "exact", text
    for name in classes(text):
        yield "class", name
    if where == "at" and word.isalpha():
        yield "forms", _stem(word)
        for n in ENDINGS:
            if len(word) >= n + 2:
                yield "ending", word[-n:]


def rules_of(context: Context, near: int) -> set[Rule]:
    """Every rule that holds at the active token of a context.

    Args:
        context: cut only where the text is; the tokens that are not shown obey no rule.
        near: how many tokens before the active one are near.
    """
    tokens, at = context.tokens, context.at
    rules = set() if at else {Rule("first", "", "")}
    for where, i in (("at", at), ("after", at - 1), ("before", at + 1)):
        if 0 <= i < len(tokens):
            rules |= {Rule(where, *reading) for reading in readings(tokens[i], where)}
            if i:
                pairs = pair_classes(tokens[i - 1], tokens[i])
                rules |= {Rule(where, "class", name) for name in pairs}
    for text in tokens[max(0, at - near) : at]:
        rules |= {Rule("near", *reading) for reading in readings(text, "near")}
    return rules
