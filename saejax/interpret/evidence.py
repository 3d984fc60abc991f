"""What a labeller is shown of one latent: tokens on which it is active, in their contexts."""

from typing import NamedTuple

# What stands in the place of a label where there is no one theme, as the text has it.
POLYSEMANTIC = "POLYSEMANTIC"


class Context(NamedTuple):
    """Successive tokens around one at which a latent is active.

    Cut short only where the sequence begins or ends, so that a context with `at` 0 is the beginning
    of a sequence.

    Attributes:
        tokens: their texts.
        activations: of the latent, at each of them.
        at: which of them is the active one.
    """

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    at: int


class Evidence(NamedTuple):
    """What is known of one latent.

    Attributes:
        latent: its number.
        contexts: where it is active, strongest first.
    """

    latent: int
    contexts: tuple[Context, ...]


class Label(NamedTuple):
    """What a labeller says of a latent.

    Attributes:
        text: a description of a few words; None where there is no one theme (polysemantic).
        labeller: who says so.
    """

    text: str | None
    labeller: str

    @property
    def polysemantic(self) -> bool:
        """Whether the latent has no one theme."""
        return self.text is None
