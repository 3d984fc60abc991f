"""What a labeller is shown of a latent, contexts of tokens, and the label that it gives."""

from typing import NamedTuple

# Stands in place of a label where there is no one theme; the published text's word.
POLYSEMANTIC = "POLYSEMANTIC"


class Context(NamedTuple):
    """Successive tokens around one at which a latent is active.

    Cut short only where the sequence begins or ends: `at` 0 is the beginning of a sequence.

    Attributes:
        tokens: their texts.
        activations: of the latent, at each of them.
        at: index of the active token.
    """

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    at: int


class Evidence(NamedTuple):
    """One latent and the contexts in which it is active, strongest first."""

    latent: int
    contexts: tuple[Context, ...]


class Label(NamedTuple):
    """What a labeller says of a latent.

    Attributes:
        text: a description of a few words; None where there is no one theme (polysemantic).
        labeller: the labeller's name.
    """

    text: str | None
    labeller: str

    @property
    def polysemantic(self) -> bool:
        """Whether the latent has no one theme."""
        return self.text is None
