"""The claims about dead latents, their revival, and monosemantic latents."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float

from saejax.core.table import Table
from saejax.experiments.common.claims import JUDGED, Claim, check_tables, table_of
from saejax.experiments.language.workdirs import by_seed
from saejax.interpret.study import KEYS

COLUMNS = ("claim", "published", "l1", "resample", *JUDGED)
# Limits of ours, where the text gives words: percentage points that are "not much", and most
# latents.
NOT_MUCH = 5.0
MOST = 50.0
_Row = Mapping[str, Any]


def of_gpt2(tables: Mapping[str, Sequence[_Row]]) -> Table:
    """The claims, answered with numbers of every seed.

    Columns: claim, published (what the text says of GPT-2), l1 and resample of the SAEs judged,
    measure, claimed (where the claim puts the measure), mean, sd and seeds of the measure, answer.

    - Reviving lowers the share of dead latents: "off" minus each other way, in percentage points,
      for every l1 and expansion, is above 0. Dead is never above the threshold on held-out batches.
    - Larger dictionaries have more dead latents: the largest expansion minus the smallest, without
      resampling, is above 0.
    - A smaller l1 does not help: dead latents at the largest l1 minus those at the smallest,
      without resampling, mean over expansions, are below `NOT_MUCH` points.
    - Latents are reliably monosemantic: their rate, mean over expansions, is above `MOST` percent.
    - Labelled latents fall into two clusters: the mean correlation of two latents of high
      selectivity or of two of low selectivity, less that of one of each, is above 0 (mean over
      expansions).

    Args:
        tables: rows by name, see `KEYS`.

    Raises:
        ValueError: for a row that does not say what it is of, and for two of the same.

    Source: "Sparse Autoencoders for Monosemanticity".
    """
    check_tables(tables, KEYS)
    cells = list(tables.get("cells", ()))
    axes = {name: sorted({row[name] for row in cells}) for name in ("l1", "ratio", "seed")}
    ways = list(dict.fromkeys(row["resample"] for row in cells))
    rows: list[dict[str, Any]] = []
    for part in (_resampling, _larger, _smaller_l1, _clusters):
        rows += part(cells, axes, ways)
    rows += _monosemantic(list(tables.get("rates", ())), axes)
    return table_of(rows, *COLUMNS)


def values(
    rows: Sequence[_Row], name: str, seeds: Sequence[int], ratios: Sequence[float], **where: Any
) -> Float[np.ndarray, "seeds ratios"]:
    """A column of rows with given coordinates, NaN where there is no row or no value."""
    chosen = [row for row in rows if all(row[key] == value for key, value in where.items())]
    return by_seed(chosen, name, seeds, ratio=ratios)


_Axes = Mapping[str, list[Any]]


def _dead(cells: Sequence[_Row], axes: _Axes, l1: float, way: str) -> np.ndarray:
    return 100 * values(cells, "dead", axes["seed"], axes["ratio"], l1=l1, resample=way)


def _resampling(cells: Sequence[_Row], axes: _Axes, ways: list[str]) -> Iterator[dict[str, Any]]:
    if "off" not in ways:
        return
    for way, l1 in product([way for way in ways if way != "off"], axes["l1"]):
        text = "reviving dead latents lowers their share"
        said = "by 8 to 23 points with resampling" if way == "on" else ""
        claim = Claim(text, "", {"l1": l1, "resample": way}, said)
        fewer = _dead(cells, axes, l1, "off") - _dead(cells, axes, l1, way)
        for at, ratio in enumerate(axes["ratio"]):
            measure = f"% dead without, less % dead with, expansion {ratio:g}"
            yield claim.row(measure, fewer[:, at], "above")


def _larger(cells: Sequence[_Row], axes: _Axes, ways: list[str]) -> Iterator[dict[str, Any]]:
    if "off" not in ways or len(axes["ratio"]) < 2:
        return
    for l1 in axes["l1"]:
        dead = _dead(cells, axes, l1, "off")
        text = "larger dictionaries have a larger share of dead latents"
        said = "by 20 to 22 points from expansion 4 to 32"
        ends = f"{axes['ratio'][-1]:g} less {axes['ratio'][0]:g}"
        claim = Claim(text, "", {"l1": l1, "resample": "off"}, said)
        yield claim.row(f"% dead at expansion {ends}", dead[:, -1] - dead[:, 0], "above")


def _smaller_l1(cells: Sequence[_Row], axes: _Axes, ways: list[str]) -> Iterator[dict[str, Any]]:
    if "off" not in ways or len(axes["l1"]) < 2:
        return
    small, large = axes["l1"][0], axes["l1"][-1]
    fewer = _dead(cells, axes, large, "off") - _dead(cells, axes, small, "off")
    text = "a smaller l1 hardly lowers the share of dead latents"
    said = "0.4 to 4 points more with 1e-4 than with 1e-2"
    claim = Claim(text, "", {"l1": None, "resample": "off"}, said)
    yield claim.row(f"% dead at l1 {large:g} less {small:g}", fewer.mean(1), "below", NOT_MUCH)


def _clusters(cells: Sequence[_Row], axes: _Axes, ways: list[str]) -> Iterator[dict[str, Any]]:
    for way, l1 in product(ways, axes["l1"]):
        within, across = (
            values(cells, name, axes["seed"], axes["ratio"], l1=l1, resample=way)
            for name in ("within", "across")
        )
        text = "labelled latents fall into two clusters, those of high and those of low selectivity"
        cells_of = {"l1": l1, "resample": way}
        claim = Claim(text, "", cells_of, "seen in a picture, not explained")
        measure = "correlation within less across, mean over expansions"
        yield claim.row(measure, (within - across).mean(1), "above")


def _monosemantic(rates: Sequence[_Row], axes: _Axes) -> Iterator[dict[str, Any]]:
    published = {"off": "78 to 86 %", "on": "72 to 88 %"}
    ways = list(dict.fromkeys(row["resample"] for row in rates))
    labellers = list(dict.fromkeys(row["labeller"] for row in rates))
    for labeller, way, l1 in product(labellers, ways, axes["l1"]):
        share = 100 * values(
            rates, "rate", axes["seed"], axes["ratio"], l1=l1, resample=way, labeller=labeller
        )
        text, said = "most labelled latents are monosemantic", published.get(way, "")
        measure = f"% monosemantic by {labeller}, mean over expansions"
        claim = Claim(text, "", {"l1": l1, "resample": way}, said)
        yield claim.row(measure, share.mean(1), "above", MOST)
