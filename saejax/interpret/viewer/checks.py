"""What a dashboard must be like to become a page, said by name where it is not."""

import re
from typing import NoReturn

import numpy as np
from jaxtyping import Shaped

from saejax.interpret.dashboard import Dashboard

# Such a name is the same file on every system, needs no quoting in a link, and cannot leave its
# folder.
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,=+-]{0,199}")
# Some systems take these for devices, whatever comes behind the dot.
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# Activations of contexts and their highest may come from batches of different shapes.
ROUNDING = 0.01


def check_name(name: str, what: str) -> str:
    """The name of an SAE, where it is fit for a file.

    Raises:
        ValueError: `what: got X, allowed: ...`.
    """
    safe = SAFE_NAME.fullmatch(name) and not DEVICES.fullmatch(name) and not name.endswith(".")
    if not safe or name.lower() == "index":
        raise ValueError(
            f"{what}: got {name!r}, allowed: up to 200 letters, digits and any of _.,=+- that "
            "begin with a letter, a digit or _, do not end in a dot, and are not 'index' or the "
            "name of a device"
        )
    return name


def check_dashboard(board: Dashboard) -> None:
    """Refuses a dashboard that contradicts itself.

    Args:
        board: what is shown of one SAE.

    Raises:
        ValueError: a name that is no file name, arrays of different lengths, numbers that are not
            finite, ids of tokens, rows or latents that do not exist; the error names SAE and field.
    """
    check_name(board.name, "name")
    d_sae = len(board.firings)
    if not d_sae:
        _refuse(board, "firings", "no latents", "one or more")
    _check_sample(board)
    _check_columns(board, d_sae)
    _check_contexts(board, d_sae)
    _check_effects(board, d_sae)
    for field, related in (("correlated", board.correlated), ("neighbours", board.neighbours)):
        k = related.latents.shape[-1]
        _check_shape(board, f"{field}.latents", related.latents, (d_sae, k))
        _check_shape(board, f"{field}.values", related.values, (d_sae, k))
        _check_range(board, f"{field}.latents", related.latents, -1, d_sae)
        _check_finite(board, f"{field}.values", related.values)
    names = [board.name, *(other.name for other in board.elsewhere)]
    if len(set(names)) < len(names):
        _refuse(board, "elsewhere", names[1:], "every other SAE once, and not this one")
    for other in board.elsewhere:
        check_name(other.name, "elsewhere.name")
        for field, array in (("latents", other.latents), ("mcs", other.mcs)):
            _check_shape(board, f"elsewhere.{field}", array, (d_sae,))
        _check_finite(board, "elsewhere.mcs", other.mcs)
        if (other.latents < 0).any():
            _refuse(board, "elsewhere.latents", int(other.latents.min()), "0 or more")
    if outside := [latent for latent in board.labels if not 0 <= latent < d_sae]:
        _refuse(board, "labels", outside[0], f"latents from 0 to {d_sae - 1}")


def _check_sample(board: Dashboard) -> None:
    tokens, bounds, vocabulary = board.sample
    if not len(tokens):
        _refuse(board, "sample.tokens", "none", "one or more")
    _check_range(board, "sample.tokens", tokens, 0, len(vocabulary))
    ordered = len(bounds) > 1 and bounds[0] == 0 and bounds[-1] == len(tokens)
    if not ordered or (np.diff(bounds) < 0).any():
        _refuse(board, "sample.bounds", bounds, f"rows in order, from 0 to {len(tokens)}")


def _check_columns(board: Dashboard, d_sae: int) -> None:
    for field in ("highest", "mean", "selectivity", "dead"):
        _check_shape(board, field, getattr(board, field), (d_sae,))
    for field in ("highest", "mean"):
        _check_finite(board, field, getattr(board, field))
        if (getattr(board, field) < 0).any():
            _refuse(board, field, float(getattr(board, field).min()), "0 or more")
    _check_shape(board, "histogram", board.histogram, (d_sae, board.histogram.shape[-1]))
    _check_range(board, "firings", board.firings, 0, len(board.sample.tokens) + 1)
    _check_range(board, "histogram", board.histogram, 0, len(board.sample.tokens) + 1)


def _check_contexts(board: Dashboard, d_sae: int) -> None:
    if board.before < 0 or board.after < 0:
        _refuse(board, "before, after", (board.before, board.after), "0 or more")
    slots, width = board.rows.shape[-1], board.before + 1 + board.after
    _check_shape(board, "rows", board.rows, (d_sae, slots))
    _check_range(board, "rows", board.rows, -1, len(board.sample.tokens))
    _check_shape(board, "activations", board.activations, (d_sae, slots, width))
    for group in board.groups:
        if not 0 <= group.first <= group.last <= slots:
            _refuse(board, "groups", group, f"slots from 0 to {slots}")
    for latent in range(d_sae):
        inside = board.activations[latent]
        low, high = inside.min(initial=0.0), inside.max(initial=0.0)
        # A comparison holds for no NaN.
        if not (low >= 0 and high <= board.highest[latent] * (1 + ROUNDING)):
            allowed = f"from 0 to {board.highest[latent]:g}, the highest of latent {latent}"
            _refuse(board, "activations", f"from {low:g} to {high:g}", allowed)


def _check_effects(board: Dashboard, d_sae: int) -> None:
    effects, n_tokens = board.effects, len(board.sample.vocabulary)
    for ids, values in (("promoted", "gains"), ("suppressed", "losses")):
        found, changes = getattr(effects, ids), getattr(effects, values)
        _check_shape(board, f"effects.{ids}", found, (d_sae, found.shape[-1]))
        _check_shape(board, f"effects.{values}", changes, (d_sae, found.shape[-1]))
        _check_range(board, f"effects.{ids}", found, 0, n_tokens)
        _check_finite(board, f"effects.{values}", changes)
    _check_shape(
        board, "effects.histogram", effects.histogram, (d_sae, effects.histogram.shape[-1])
    )
    _check_range(board, "effects.histogram", effects.histogram, 0, n_tokens + 1)
    _check_shape(board, "effects.span", effects.span, (d_sae, 2))
    _check_finite(board, "effects.span", effects.span)


def _refuse(board: Dashboard, field: str, got: object, allowed: str) -> NoReturn:
    raise ValueError(f"{field} of {board.name}: got {got}, allowed: {allowed}")


def _check_shape(
    board: Dashboard, field: str, array: Shaped[np.ndarray, "..."], shape: tuple
) -> None:
    if array.shape != shape:
        _refuse(board, field, array.shape, f"the shape {shape}")


def _check_range(
    board: Dashboard, field: str, array: Shaped[np.ndarray, "..."], low: int, end: int
) -> None:
    if array.size and not (array.min() >= low and array.max() < end):
        _refuse(board, field, f"{array.min()} to {array.max()}", f"{low} to {end - 1}")


def _check_finite(board: Dashboard, field: str, array: Shaped[np.ndarray, "..."]) -> None:
    if not np.isfinite(array).all():
        _refuse(board, field, "numbers that are not finite", "finite numbers")
