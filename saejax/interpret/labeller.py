"""The interface of a labeller, whether it computes labels or asks another model."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from saejax.interpret.evidence import Evidence, Label

# Called with the number of latents that have a label, and that of all.
Progress = Callable[[int, int], None]


@runtime_checkable
class Labeller(Protocol):
    """Says in a few words what latents respond to, or that they have no one theme."""

    @property
    def name(self) -> str:
        """Stands beside each of its labels."""
        ...

    def label(self, evidence: Sequence[Evidence], progress: Progress | None = None) -> list[Label]:
        """A label for every latent, in their order.

        Args:
            evidence: all latents at once, so that a labeller may look at several together.
            progress: called after every latent.

        Raises:
            ValueError: for evidence that `check_evidence` refuses.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Settings to write down beside the results, JSON types only, no secrets."""
        ...


def check_evidence(evidence: Sequence[Evidence]) -> None:
    """Refuses evidence that no labeller can read, before work starts.

    Raises:
        ValueError: naming the latent: it has no contexts, or a context whose active token is not
            one of its tokens or that lacks an activation for each token.
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
