"""What was hoped for, beside what was measured."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

# Share of a plain float32 product's rate, on a CPU, by d_in.
SHARES = {256: 0.8, 64: 0.6}
# How many times as fast as SAELens, at the published d_in and, on a CPU, for narrow ones.
PUBLISHED_D_IN, NARROW = 256, 64
TIMES_SAELENS = {"cpu": 2.2, "gpu": 20.0}
TIMES_SAELENS_NARROW = 6.0
# bf16 products over float32 ones, on a CPU with AVX512-BF16.
BF16_GAIN = 1.4

Row = Mapping[str, Any]


def _goal(what: str, row: Row, measured: float, needed: float) -> dict[str, Any]:
    where = f"{row['d_in']}x{row['d_sae']}x{row['batch']}x{row['cells']}"
    met = "yes" if measured >= needed else "no"
    return {"goal": what, "shape": where, "measured": measured, "needed": needed, "met": met}


def of_shares(rows: Iterable[Row], platform: str) -> list[dict[str, Any]]:
    """Goals of this library alone.

    Args:
        rows: of `saejax.experiments.benchmark.ours.measure`.
        platform: what JAX trains on; there are such goals for a CPU.
    """
    if platform != "cpu":
        return []
    rows = list(rows)
    out = [
        _goal("share of the product's rate", row, row["share"], SHARES[row["d_in"]])
        for row in rows
        if row["precision"] == "highest" and row["d_in"] in SHARES
    ]

    def sizes(row: Row) -> tuple:
        return tuple(row[name] for name in ("d_in", "d_sae", "batch", "cells", "seeds"))

    full = {sizes(row): row["seconds"] for row in rows if row["precision"] == "highest"}
    return out + [
        _goal("bf16 over float32 (AVX512-BF16)", row, full[sizes(row)] / row["seconds"], BF16_GAIN)
        for row in rows
        if row["precision"] == "bf16" and sizes(row) in full and row["d_in"] in SHARES
    ]


def times_saelens(d_in: int, platform: str) -> float | None:
    """How many times as fast as SAELens training should be; None where nothing is hoped for."""
    if d_in == PUBLISHED_D_IN:
        return TIMES_SAELENS.get(platform)
    return TIMES_SAELENS_NARROW if d_in <= NARROW and platform == "cpu" else None


def of_peers(rows: Sequence[Row], platform: str) -> list[dict[str, Any]]:
    """Goals beside SAELens, against whichever of its two trainers was faster.

    Args:
        rows: of `saejax.experiments.benchmark.compare.side_by_side`.
        platform: what JAX trains on.
    """

    def sizes(row: Row) -> tuple:
        return tuple(row[name] for name in ("d_in", "d_sae", "batch", "cells"))

    out = []
    for _, group in groupby(rows, key=sizes):
        saelens = [row for row in group if row["method"].startswith("saelens")]
        if not saelens:
            continue
        best = min(saelens, key=lambda row: row["times_ours"])
        needed = times_saelens(best["d_in"], platform)
        if needed is not None:
            out.append(
                _goal(f"times as fast as {best['method']}", best, best["times_ours"], needed)
            )
    return out
