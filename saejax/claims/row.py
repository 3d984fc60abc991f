"""One row of the table of claims, and the words that its kinds share."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from saejax import plots
from saejax.claims.verdict import Side, verdict

RARITY = "rare features are represented worse"
RANKS = "rank correlation of firing probability and best cosine"


class Claim(NamedTuple):
    """What the rows of one claim share.

    Attributes:
        claim: in words.
        data: the data set, or the two of a difference.
        variant: lr and resample of the SAEs, where they are swept; None where no SAE is judged.
        published: figures of the text; its data have 256 dimensions, whatever ours have.
    """

    claim: str
    data: str
    variant: dict[str, Any]
    published: str = ""

    def row(
        self,
        measure: str,
        figures: Float[np.ndarray, " seeds"],
        claimed: Side,
        limit: Float[np.ndarray, " seeds"] | float = 0.0,
        limit_in_words: str = "",
        details: str = "",
        chosen_from: int = 1,
    ) -> dict[str, Any]:
        """A row with its answer.

        Args:
            measure: what the figures are.
            figures, claimed, limit, chosen_from: as in `saejax.claims.verdict`.
            limit_in_words: shown for the limit where it is one a seed.
            details: what else was looked at; shown where the claim does not hold or is unclear.
        """
        outcome = verdict(figures, claimed, limit, chosen_from)
        shown = details if outcome["answer"].startswith(("does not hold", "unclear")) else ""
        return self._whole(measure, f"{claimed} {limit_in_words or f'{limit:g}'}", outcome, shown)

    def unmeasured(self, needs: str) -> dict[str, Any]:
        """A row without figures that says what it would take."""
        nothing = {"mean": np.nan, "sd": np.nan, "seeds": 0}
        return self._whole("", "", {**nothing, "answer": f"not measured: needs {needs}"}, "")

    def _whole(
        self, measure: str, claimed: str, outcome: dict[str, Any], details: str
    ) -> dict[str, Any]:
        head = {"claim": self.claim, "data": self.data, **self.variant, "measure": measure}
        tail = {"published_at_d_in_256": self.published, "details": details}
        return {**head, "claimed": claimed, **outcome, **tail}


def check_tables(
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    keys: Mapping[str, Sequence[str]],
    several: Sequence[str] = (),
) -> None:
    """Refuses rows that do not say what they are of, and two of the same.

    Args:
        tables: rows by name.
        keys: what a row of each table is of.
        several: tables in which several rows may be of the same.

    Raises:
        ValueError: naming the table.
    """
    for name, own in keys.items():
        seen = set()
        for row in tables.get(name, ()):
            missing = [key for key in own if row.get(key) is None]
            if missing:
                raise ValueError(f"{name}: got a row without {missing[0]}, allowed: {', '.join(own)}")
            at = tuple(row[key] for key in own)
            if at in seen and name not in several:
                raise ValueError(f"{name}: got {at} twice, allowed: each {', '.join(own)} once")
            seen.add(at)


def listed(what: str, axis: str, at: Iterable[float], values: Iterable[float]) -> str:
    """Figures along an axis as text, without those that have no value."""
    pairs = zip((f"{x:,}" if isinstance(x, int) else f"{x:.3g}" for x in at), values, strict=True)
    figures = ", ".join(f"{value:.3g} at {x}" for x, value in pairs if np.isfinite(value))
    return f"{what}, by {axis}: {figures}"


def mean(values: Any) -> float:
    """Mean of all values that are finite; NaN where none is."""
    return plots.mean_and_spread(np.ravel(values))[0]
