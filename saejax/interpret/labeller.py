"""What every labeller is asked, whether it computes or asks another model."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from saejax.interpret.evidence import Evidence, Label

# Called with the number of latents that have a label, and that of all.
Progress = Callable[[int, int], None]


@runtime_checkable
class Labeller(Protocol):
    """Says in a few words what latents respond to, or that they have no one theme.

    Attributes:
        name: who is named as the source of a label.
    """

    @property
    def name(self) -> str: ...

    def label(self, evidence: Sequence[Evidence], progress: Progress | None = None) -> list[Label]:
        """A label for every latent, in their order.

        Args:
            evidence: of the latents; all at once, so that a labeller may look at several together.
            progress: is told after every latent how far the work is.

        Raises:
            ValueError: for evidence without contexts, or whose contexts are not whole.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Settings to write down beside the results, JSON types only, no secrets."""
        ...


def check_evidence(evidence: Sequence[Evidence]) -> None:
    """Refuse evidence that no labeller can read, before work starts.

    Raises:
        ValueError: naming the latent, for no contexts, a context whose active token is not one of
            its tokens, or that has not one activation for each token.
    """
    for latent, contexts in evidence:
        if not contexts:
            raise ValueError(f"evidence: got no contexts of latent {latent}, allowed: 1 or more")
        for i, (tokens, activations, at) in enumerate(contexts):
            if not 0 <= at < len(tokens) or len(tokens) != len(activations):
                raise ValueError(
                    f"evidence: got context {i} of latent {latent} with {len(tokens)} tokens, "
                    f"{len(activations)} activations and at={at}, allowed: as many activations as "
                    "tokens, and at one of them"
                )
