"""The flags of which SAEs a sweep trains, shared by the studies that let one choose."""

from typing import Any

from absl import flags

from saejax.experiments.common.command import chosen, numbers
from saejax.sae.registry import KINDS, JumpReLU


def define(own: flags.FlagValues) -> None:
    """The flags of which SAEs a sweep trains, and of how sparse those are that do not read l1."""
    for name, default, text in (
        ("architecture", ["relu"], f"Architectures, of: {', '.join(KINDS)}."),
        ("k", None, "Active latents of a sample, of topk, batchtopk and matryoshka."),
        ("gated_l1", None, "L1 coefficients of gated. Default: those of l1."),
        (
            "l0_coefficient",
            None,
            "Coefficients of jumprelu, which count latents. Default: those of l1.",
        ),
    ):
        flags.DEFINE_list(name, default, text, flag_values=own)
    for name, default, text in (
        (
            "bandwidth",
            JumpReLU.bandwidth,
            "Width of the kernel of jumprelu, in units of activation.",
        ),
        (
            "initial_threshold",
            JumpReLU.initial_threshold,
            "Where jumprelu's thresholds start, likewise.",
        ),
    ):
        flags.DEFINE_float(name, default, text, flag_values=own)


def chosen_architectures(own: flags.FlagValues) -> dict[str, Any]:
    """The arguments of `Sweep` that `define` and `--l1` give.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    names = chosen(own, "architecture", list(KINDS))
    read = [name for name in names if KINDS[name].reads == "l1"]
    l1: Any = numbers(own, "l1") if read else None
    for flag, name in (("gated_l1", "gated"), ("l0_coefficient", "jumprelu")):
        if own[flag].value is None:
            continue
        if name not in names:
            raise ValueError(
                f"{flag}: got {own[flag].value!r}, allowed: with {name} in --architecture"
            )
        l1 = (l1 if isinstance(l1, dict) else dict.fromkeys(read, l1)) | {name: numbers(own, flag)}
    for flag in ("bandwidth", "initial_threshold"):
        if own[flag].value != own[flag].default and "jumprelu" not in names:
            raise ValueError(
                f"{flag}: got {own[flag].value}, allowed: with jumprelu in --architecture"
            )
    if not read and own["l1"].value != own["l1"].default:
        raise ValueError(
            f"l1: got {own['l1'].value!r}, allowed: with an architecture that reads it"
        )
    k = None if own["k"].value is None else numbers(own, "k", int)
    constants: dict[str, Any] = {
        name: own[name].value for name in ("bandwidth", "initial_threshold")
    }
    jumprelu = JumpReLU(**constants)
    kinds = [jumprelu if name == "jumprelu" else name for name in names]
    return {"architecture": kinds, "l1": l1, "k": k}
