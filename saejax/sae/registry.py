"""The architectures by name; `saejax.sae.architecture` says what each of them is asked for."""

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

__all__ = ["KINDS", "Architecture", "BatchTopK", "Gated", "JumpReLU", "Loss", "Matryoshka"]
__all__ += ["ReLU", "Swept", "TopK", "as_architecture", "describe", "described"]


def as_architecture(name: str, value: Any, allowed: str) -> Architecture:
    """An architecture, or the one with default constants that a name stands for.

    Arguments as of `saejax.core.checks`.

    Raises:
        ValueError: for anything else, and for an architecture that encodes or decodes otherwise
            than its kind does, as which it would be exported.
    """
    if isinstance(value, Architecture):
        library, given = KINDS.get(value.kind), type(value)
        parts = ("activate", "encode", "decode")
        if library and any(getattr(given, part) is not getattr(library, part) for part in parts):
            raise ValueError(
                f"kind: got {value.kind!r} of {given.__name__}, which has an encoder or decoder of "
                f"its own, allowed: a new name, none of {', '.join(KINDS)}"
            )
        return value
    if isinstance(value, str) and value in KINDS:
        return KINDS[value]()
    raise ValueError(f"{name}: got {value!r}, allowed: {allowed}")


def describe(architecture: Architecture, d_in: int) -> dict[str, Any]:
    """What tells an architecture from another, JSON types only.

    Its constants; of a class that is none of the library's also what its functions compute.

    Raises:
        ValueError: where its functions fail on inputs of width d_in.
    """
    constants = architecture.describe(d_in)
    if type(architecture) is KINDS.get(architecture.kind):
        return constants
    return constants | {"program": architecture.program(d_in)}


def described(run: Mapping[str, Any], name: str) -> str:
    """The kind of the architecture of a name, as a run's description has it.

    Runs from before there were several architectures do not say; they are of ReLUs.
    """
    return run.get("architectures", {}).get(name, {}).get("kind", "relu")
