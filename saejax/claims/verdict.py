"""Whether a figure lies where a text puts it, given its spread over seeds."""

from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float
from scipy import stats

from saejax import plots

Side = Literal["above", "below"]


def verdict(
    figures: Float[np.ndarray, " seeds"],
    claimed: Side,
    limit: Float[np.ndarray, " seeds"] | float = 0.0,
    chosen_from: int = 1,
) -> dict[str, Any]:
    """Mean of a figure over seeds, and whether it lies on the claimed side of a limit.

    With d_s the distance of seed s from its limit, counted positive on the claimed side, m its mean
    and sd its standard deviation (divisor n - 1), the 95 % interval of the mean is
    `m +- t(0.975, n - 1) sd / sqrt(n)` with Student's t. The claim

    holds          where the whole interval is above 0
    does not hold  where none of it is
    unclear        otherwise

    One seed has no interval: the sign of d decides, and the answer ends in "(one seed)". Seeds that
    agree exactly have an interval of width 0, so an effect of exactly 0 does not hold.

    The best of several settings, chosen by the very numbers that are judged, is on average better
    here than on new seeds, and the interval does not know it. The answer then ends in "(best of N,
    chosen afterwards)": it is about these seeds and no test.

    Args:
        figures: one a seed; what is not finite is left out.
        claimed: the side of the limit on which the text puts the figure.
        limit: one number, or one a seed.
        chosen_from: how many settings the judged one was chosen from by these numbers.

    Returns:
        `mean` of the figures; `sd`, their standard deviation (divisor n - 1, NaN for one seed);
        `seeds`, how many there were; `answer`.

    Raises:
        ValueError: for another side, or a choice from fewer than one.
    """
    if claimed not in get_args(Side):
        raise ValueError(f"claimed: got {claimed!r}, allowed: {', '.join(get_args(Side))}")
    if chosen_from < 1:
        raise ValueError(f"chosen_from: got {chosen_from}, allowed: 1 or more")
    figures = np.asarray(figures, float)
    distance = figures - limit if claimed == "above" else limit - figures
    kept = np.isfinite(distance)
    mean, sd = plots.mean_and_spread(figures[kept])
    n = int(kept.sum())
    if n == 0:
        answer = "not measured: no seed has a value"
    else:
        m, spread = plots.mean_and_spread(distance[kept])
        half = float(stats.t.ppf(0.975, n - 1)) * spread / n**0.5 if n > 1 else 0.0
        answer = "holds" if m > half else "does not hold" if m <= -half else "unclear"
        notes = ["one seed"] if n == 1 else []
        if chosen_from > 1:
            notes.append(f"best of {chosen_from}, chosen afterwards")
        answer += f" ({', '.join(notes)})" if notes else ""
    return {"mean": mean, "sd": sd, "seeds": n, "answer": answer}
