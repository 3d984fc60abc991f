"""Architectures of SAEs, a few pure functions each; `base` says what the engine asks of them."""

from collections.abc import Mapping
from typing import Any

from saejax.sae.architecture import Architecture, Loss, Swept
from saejax.sae.gated import Gated
from saejax.sae.jumprelu import JumpReLU
from saejax.sae.matryoshka import Matryoshka
from saejax.sae.topk import BatchTopK, TopK

ReLU = Architecture
# How a trained SAE encodes, by its kind.
KINDS: dict[str, type[Architecture]] = {
    kind.kind: kind for kind in (ReLU, TopK, BatchTopK, JumpReLU, Gated, Matryoshka)
}

__all__ = [
    "KINDS",
    "Architecture",
    "BatchTopK",
    "Gated",
    "JumpReLU",
    "Loss",
    "Matryoshka",
    "ReLU",
    "Swept",
    "TopK",
    "as_architecture",
    "describe",
    "described",
]


def as_architecture(name: str, value: Any, allowed: str) -> Architecture:
    """An architecture, or the one with default constants that a name stands for.

    Args:
        name: how the error names the argument.
        value: what the user handed in.
        allowed: what is, in words.

    Raises:
        ValueError: for anything else, and for an architecture that encodes or decodes otherwise
            than its kind does, as which it would be exported.
    """
    if isinstance(value, Architecture):
        theirs, own = KINDS.get(value.kind), type(value)
        if theirs and (own.encode is not theirs.encode or own.decode is not theirs.decode):
            raise ValueError(
                f"kind: got {value.kind!r} of {own.__name__}, which has an encoder or decoder of "
                f"its own, allowed: a new name, none of {', '.join(KINDS)}"
            )
        return value
    if isinstance(value, str) and value in KINDS:
        return KINDS[value]()
    raise ValueError(f"{name}: got {value!r}, allowed: {allowed}")


def describe(own: Architecture, d_in: int) -> dict[str, Any]:
    """What tells an architecture from another, JSON types only.

    Its constants; of a class that is none of the library's also what its functions compute.

    Args:
        own: the architecture.
        d_in: of the data.

    Raises:
        ValueError: where its functions fail on inputs of that size.
    """
    library = type(own) is KINDS.get(own.kind)
    return own.describe(d_in) | ({} if library else {"program": own.program(d_in)})


def described(run: Mapping[str, Any], name: str) -> str:
    """The kind of an architecture from what a run's description says about its name.

    Runs of before there were several say nothing, and are of ReLUs.
    """
    return run.get("architectures", {}).get(name, {}).get("kind", "relu")
