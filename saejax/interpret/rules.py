"""Rules that may say where a latent is active: the token, what stands next to it, its class."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from saejax.interpret.evidence import Context

PIECES = "pieces of a word, attached to the letters before them"
ATTACHED = "tokens attached to the one before without a space"
# Members of these have little in common but their spelling: a latent that is active on a few of
# them only has a list of tokens, not the class, for its theme.
OPEN = frozenset(
    (
        "capitalised words",
        "words in capitals",
        "single letters",
        "characters outside ASCII",
        PIECES,
        ATTACHED,
    )
)
OPENING, CLOSING, QUOTES = frozenset("([{"), frozenset(")]}"), frozenset("\"'`“”‘’")
ENDINGS = (2, 3, 4)
LONGEST = 40


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
        return self.where in ("at", "after", "before") and self.reading in (
            "exact",
            "any case",
            "forms",
        )

    @property
    def open_at(self) -> tuple[str, ...]:
        """Tokens that the rule leaves open: any of many that have little in common else."""
        open_class = self.reading == "ending" or (self.reading == "class" and self.value in OPEN)
        own = ("at",) if self.where in ("after", "before", "near") else ()
        return (*own, self.where) if open_class else own

    @property
    def text(self) -> str:
        """The rule in words."""
        if self.where == "first":
            return "first token of a sequence"
        words = {
            "exact": quoted(self.value),
            "any case": f"{quoted(self.value)} in any case",
            "forms": f"forms of {quoted(self.value + '…')}",
            "class": self.value,
            "ending": f"words ending in {quoted(self.value)}",
        }[self.reading]
        if self.where == "at":
            return f"token {words}" if self.reading == "exact" else words
        return f"shortly after {words}" if self.where == "near" else f"{self.where} {words}"


def quoted(text: str) -> str:
    """A token between quotation marks, with escapes for what cannot be seen, cut where it is
    long."""
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
    if not core:
        if not text:
            return set()
        lines = text[-1] in "\r\n"
        wide = len(text) > 1
        return {"white space"} | ({"line breaks"} if lines else {"indentation"} if wide else set())
    found = set()
    if not core.isascii():
        found.add("characters outside ASCII")
    if core.isdecimal():
        found.add("digits")
    # U+FFFD stands for bytes that are only part of a character.
    elif "\ufffd" not in core and not any(c.isalnum() or c.isspace() for c in core):
        found.add("punctuation")
        for members, name in (
            (OPENING, "opening brackets"),
            (CLOSING, "closing brackets"),
            (QUOTES, "quotation marks"),
        ):
            if members.issuperset(core):
                found.add(name)
    elif core.isalpha():
        if len(core) == 1:
            found.add("single letters")
        elif core.isupper():
            found.add("words in capitals")
        elif core[0].isupper() and core[1:].islower():
            found.add("capitalised words")
    return found


def pair_classes(before: str, text: str) -> set[str]:
    """Classes that a token belongs to by the token before it."""
    if not before or not text or before[-1].isspace() or text[0].isspace():
        return set()
    return {PIECES, ATTACHED} if before[-1].isalpha() and text[0].isalpha() else {ATTACHED}


def readings(text: str, where: str) -> Iterator[tuple[str, str]]:
    """What is read off a token's own text, as (reading, value).

    Args:
        text: of the token.
        where: it stands, as in `Rule`. Fewer readings of other tokens than of the active one: every
            further rule is one more that may hold by chance.
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
    found = set() if at else {Rule("first", "", "")}
    for where, i in (("at", at), ("after", at - 1), ("before", at + 1)):
        if 0 <= i < len(tokens):
            found |= {Rule(where, *reading) for reading in readings(tokens[i], where)}
            if i:
                pairs = pair_classes(tokens[i - 1], tokens[i])
                found |= {Rule(where, "class", name) for name in pairs}
    for text in tokens[max(0, at - near) : at]:
        found |= {Rule("near", *reading) for reading in readings(text, "near")}
    return found
