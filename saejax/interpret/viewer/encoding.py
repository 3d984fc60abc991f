"""A dashboard as blocks of compressed data, small enough for a page and quick to decode there.

block        content, little-endian, compressed (zlib), in base64
meta         JSON: names, coordinates, sizes, labels, and the layout of the blocks of numbers
vocabulary   JSON: the text of every token id
summary      a number or a few for every latent, column by column: all that the list needs
sample       token ids of the rows that some context shows
chunk-0 ...  all else, for PER_CHUNK latents each, column by column

An activation at the token in the middle of a context is kept as a whole number of 65,535ths of the
latent's highest, those around it as 255ths: at most 0.2 % of the highest from the truth, except
that what is active at all is 1 at least.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt16, UInt32

from saejax.core.table import show
from saejax.interpret.dashboard import Dashboard

PER_CHUNK = 128
# Tokens of a latent that the list shows and its search reads.
TOP_TOKENS = 8
NO_TOKEN = 2**32 - 1
FINE, COARSE = 2**16 - 1, 2**8 - 1

Columns = Mapping[str, Shaped[np.ndarray, "latents ..."]]


class Study(NamedTuple):
    """What the pages of one viewer have in common; see `saejax.interpret.viewer.write_viewer`."""

    title: str
    note: str
    run: str
    dead_threshold: float


def blocks(board: Dashboard, study: Study) -> Iterator[tuple[str, str]]:
    """Names and contents of the blocks of one SAE, in the order in which a page needs them.

    The dashboard must have passed `check_dashboard`.
    """
    starts = range(0, len(board.firings), PER_CHUNK)
    summary, details = _summary(board), _details(board)
    runs, kept = shown_rows(board)
    small = len(board.sample.vocabulary) <= 2**16
    sample = {
        "tokens": board.sample.tokens[kept].astype(np.uint16 if small else np.uint32),
        "runs": runs,
        "bounds": board.sample.bounds.astype(np.uint32),
    }
    layouts = {"summary": _layout(summary), "chunk": _layout(_chunk(board, details, 0))}
    meta = _meta(board, study) | {
        "perChunk": PER_CHUNK,
        "chunks": len(starts),
        "layouts": layouts,
        # In a layout lengths are those of one latent; here they are those of the whole arrays.
        "sample": [[name, array.dtype.str[1:], array.size] for name, array in _by_size(sample)],
    }
    yield "meta", pack_json(meta)
    yield "summary", pack_arrays(summary)
    yield "vocabulary", pack_json(board.sample.vocabulary)
    yield "sample", pack_arrays(sample)
    for i, start in enumerate(starts):
        yield f"chunk-{i}", pack_arrays(_chunk(board, details, start))


def pack(data: bytes) -> str:
    """Bytes, compressed, as text without any character that markup knows."""
    return base64.b64encode(zlib.compress(data, 6)).decode("ascii")


def pack_json(value: Any) -> str:
    """A JSON value, packed; half of a surrogate pair is an escape in it, as JSON allows."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return pack(text.encode())


def pack_arrays(columns: Columns) -> str:
    """Arrays one behind the other, packed, larger numbers first so that all are aligned."""
    arrays = (a.astype(a.dtype.newbyteorder("<"), copy=False) for _, a in _by_size(columns))
    return pack(b"".join(a.tobytes() for a in arrays))


def quantised(
    activations: Float[np.ndarray, "latents *shape"],
    highest: Float[np.ndarray, " latents"],
    steps: int,
) -> UInt16[np.ndarray, "latents *shape"]:
    """Activations in steps of which each latent's highest has so many: `round(steps a / highest)`.

    Only an activation of 0 is 0 steps: one above it is 1 step at least, for it is active.
    """
    scale = np.where(highest > 0, highest, 1.0).astype(np.float64)
    shares = activations / scale.reshape(-1, *[1] * (activations.ndim - 1))
    whole = np.clip(np.rint(steps * shares), 0, steps)
    return np.where(activations > 0, np.maximum(whole, 1), 0).astype(np.uint16)


def shown_rows(board: Dashboard) -> tuple[UInt32[np.ndarray, "runs 2"], Bool[np.ndarray, " rows"]]:
    """The rows of the sample that some context shows.

    As first row and length of each run of successive rows, and as whether each row is in one.
    """
    bounds, n_rows = board.sample.bounds, len(board.sample.tokens)
    rows = np.unique(board.rows[board.rows >= 0])
    sequence = np.searchsorted(bounds, rows, "right") - 1
    first = np.maximum(rows - board.before, bounds[sequence])
    end = np.minimum(rows + board.after + 1, bounds[sequence + 1])
    depth = np.bincount(first, minlength=n_rows + 1) - np.bincount(end, minlength=n_rows + 1)
    kept = np.cumsum(depth)[:-1] > 0
    edges = np.diff(kept.astype(np.int8), prepend=0, append=0)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return np.stack([starts, ends - starts], axis=1).astype(np.uint32), kept


def _by_size(columns: Columns) -> list[tuple[str, np.ndarray]]:
    return sorted(columns.items(), key=lambda item: -item[1].dtype.itemsize)


def _layout(columns: Columns) -> list[list[Any]]:
    """Name, type and numbers per latent of each column, in the order of `pack_arrays`."""
    return [[name, a.dtype.str[1:], a[0].size] for name, a in _by_size(columns)]


def _meta(board: Dashboard, study: Study) -> dict[str, Any]:
    labels = sorted(board.labels.items())
    return {
        "name": board.name,
        "coords": [[str(name), show(value)] for name, value in board.coords.items()],
        "title": study.title,
        "note": study.note,
        "run": study.run,
        "deadThreshold": study.dead_threshold,
        "latents": len(board.firings),
        "rows": len(board.sample.tokens),
        "sequences": len(board.sample.bounds) - 1,
        "before": board.before,
        "after": board.after,
        "groups": [list(group) for group in board.groups],
        "elsewhere": [other.name for other in board.elsewhere],
        "labels": [[int(i), label.text, label.labeller] for i, label in labels],
        "fine": FINE,
        "coarse": COARSE,
    }


def _summary(board: Dashboard) -> dict[str, np.ndarray]:
    return {
        "firings": board.firings.astype(np.uint32),
        "highest": board.highest.astype(np.float32),
        "mean": board.mean.astype(np.float32),
        "selectivity": board.selectivity.astype(np.float32),
        "firing": _firing_tokens(board),
        "promotes": board.effects.promoted[:, :TOP_TOKENS].astype(np.uint32),
        "dead": board.dead.astype(np.uint8),
    }


def _firing_tokens(board: Dashboard) -> UInt32[np.ndarray, "latents k"]:
    """Distinct tokens at which each latent fires, in the order of its first contexts."""
    distinct = np.full((len(board.firings), TOP_TOKENS), NO_TOKEN, np.uint32)
    strongest = slice(*board.groups[0][1:]) if board.groups else slice(0)
    rows = board.rows[:, strongest]
    tokens = board.sample.tokens[np.maximum(rows, 0)]
    for out, ids, present in zip(distinct, tokens, rows >= 0, strict=True):
        first = list(dict.fromkeys(ids[present].tolist()))[:TOP_TOKENS]
        out[: len(first)] = first
    return distinct


def _details(board: Dashboard) -> dict[str, tuple[np.ndarray, str]]:
    """The columns of the chunks as they are, and the types that they are kept in."""
    effects, others, d_sae = board.effects, board.elsewhere, len(board.firings)
    return {
        "rows": (board.rows, "i4"),
        "histogram": (board.histogram, "u4"),
        "promoted": (effects.promoted, "u4"),
        "gains": (effects.gains, "f4"),
        "suppressed": (effects.suppressed, "u4"),
        "losses": (effects.losses, "f4"),
        "changes": (effects.histogram, "u4"),
        "span": (effects.span, "f4"),
        "correlated": (board.correlated.latents, "i4"),
        "correlation": (board.correlated.values, "f4"),
        "neighbours": (board.neighbours.latents, "i4"),
        "cosine": (board.neighbours.values, "f4"),
        "elsewhere": (np.reshape([other.latents for other in others], (-1, d_sae)).T, "i4"),
        "mcs": (np.reshape([other.mcs for other in others], (-1, d_sae)).T, "f4"),
    }


def _chunk(
    board: Dashboard, details: Mapping[str, tuple[np.ndarray, str]], start: int
) -> dict[str, np.ndarray]:
    """The details of the latents from one on, activations among them."""
    part = slice(start, start + PER_CHUNK)
    activations, highest = board.activations[part], board.highest[part]
    return {
        **{name: array[part].astype(kind) for name, (array, kind) in details.items()},
        "fired": quantised(activations[:, :, board.before], highest, FINE),
        "around": quantised(activations, highest, COARSE).astype(np.uint8),
    }
