"""What a dashboard must be like to become a page; an error names SAE and field."""

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


def check_dashboard(board: Dashboard) -> None:
    """Refuses a dashboard that contradicts itself.

    Raises:
        ValueError: a name that is no file name, arrays of different lengths, numbers that are not
            finite, ids of tokens, rows or latents that do not exist.
    """
    _check_name(board.name, "name")
    _check_sample(board)
    d_sae, n_rows, n_tokens = len(board.firings), len(board.sample.tokens), len(board.sample[2])
    if not d_sae:
        _refuse(board, "firings", "no latents", "one or more")
    if board.before < 0 or board.after < 0:
        _refuse(board, "before, after", (board.before, board.after), "0 or more")
    effects, correlated, neighbours = board.effects, board.correlated, board.neighbours
    for field, array, low, end in (
        ("firings", board.firings[:, None], 0, n_rows + 1),
        ("histogram", board.histogram, 0, n_rows + 1),
        ("rows", board.rows, -1, n_rows),
        ("effects.promoted", effects.promoted, 0, n_tokens),
        ("effects.suppressed", effects.suppressed, 0, n_tokens),
        ("effects.histogram", effects.histogram, 0, n_tokens + 1),
        ("correlated.latents", correlated.latents, -1, d_sae),
        ("neighbours.latents", neighbours.latents, -1, d_sae),
    ):
        _check_shape(board, field, array, d_sae, array.shape[-1])
        _check_range(board, field, array, low, end)
    slots, width = board.rows.shape[-1], board.before + 1 + board.after
    for field, array, shape in (
        ("highest", board.highest, ()),
        ("mean", board.mean, ()),
        ("effects.gains", effects.gains, effects.promoted.shape[1:]),
        ("effects.losses", effects.losses, effects.suppressed.shape[1:]),
        ("effects.span", effects.span, (2,)),
        ("correlated.values", correlated.values, correlated.latents.shape[1:]),
        ("neighbours.values", neighbours.values, neighbours.latents.shape[1:]),
        *(("elsewhere.mcs", other.mcs, ()) for other in board.elsewhere),
    ):
        _check_shape(board, field, array, d_sae, *shape)
        if not np.isfinite(array).all():
            _refuse(board, field, "numbers that are not finite", "finite numbers")
    _check_shape(board, "selectivity", board.selectivity, d_sae)
    _check_shape(board, "dead", board.dead, d_sae)
    _check_shape(board, "activations", board.activations, d_sae, slots, width)
    for field, array in (
        ("highest", board.highest),
        ("mean", board.mean),
        *(("elsewhere.latents", other.latents) for other in board.elsewhere),
    ):
        _check_shape(board, field, array, d_sae)
        if (array < 0).any():
            _refuse(board, field, array.min().item(), "0 or more")
    _check_contexts(board, slots)
    names = [board.name, *(other.name for other in board.elsewhere)]
    if len(set(names)) < len(names):
        _refuse(board, "elsewhere", names[1:], "every other SAE once, and not this one")
    for name in names[1:]:
        _check_name(name, "elsewhere.name")
    if outside := [latent for latent in board.labels if not 0 <= latent < d_sae]:
        _refuse(board, "labels", outside[0], f"latents from 0 to {d_sae - 1}")


def _check_name(name: str, what: str) -> None:
    safe = SAFE_NAME.fullmatch(name) and not DEVICES.fullmatch(name) and not name.endswith(".")
    if not safe or name.lower() == "index":
        raise ValueError(
            f"{what}: got {name!r}, allowed: up to 200 letters, digits and any of _.,=+- that "
            "begin with a letter, a digit or _, do not end in a dot, and are not 'index' or the "
            "name of a device"
        )


def _check_sample(board: Dashboard) -> None:
    tokens, bounds, vocabulary = board.sample
    if not len(tokens):
        _refuse(board, "sample.tokens", "none", "one or more")
    _check_range(board, "sample.tokens", tokens, 0, len(vocabulary))
    ordered = len(bounds) > 1 and bounds[0] == 0 and bounds[-1] == len(tokens)
    if not ordered or (np.diff(bounds) < 0).any():
        _refuse(board, "sample.bounds", bounds, f"rows in order, from 0 to {len(tokens)}")


def _check_contexts(board: Dashboard, slots: int) -> None:
    for group in board.groups:
        if not 0 <= group.first <= group.last <= slots:
            _refuse(board, "groups", group, f"slots from 0 to {slots}")
    for latent, (shown, highest) in enumerate(zip(board.activations, board.highest, strict=True)):
        low, high = shown.min(initial=0.0), shown.max(initial=0.0)
        # A comparison holds for no NaN.
        if not (low >= 0 and high <= highest * (1 + ROUNDING)):
            allowed = f"from 0 to {highest:g}, the highest of latent {latent}"
            _refuse(board, "activations", f"from {low:g} to {high:g}", allowed)


def _refuse(board: Dashboard, field: str, got: object, allowed: str) -> NoReturn:
    raise ValueError(f"{field} of {board.name}: got {got}, allowed: {allowed}")


def _check_shape(
    board: Dashboard, field: str, array: Shaped[np.ndarray, "..."], *shape: int
) -> None:
    if array.shape != shape:
        _refuse(board, field, array.shape, f"the shape {shape}")


def _check_range(
    board: Dashboard, field: str, array: Shaped[np.ndarray, "..."], low: int, end: int
) -> None:
    if array.size and not (array.min() >= low and array.max() < end):
        _refuse(board, field, f"{array.min()} to {array.max()}", f"{low} to {end - 1}")
