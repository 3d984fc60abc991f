"""The section of the bimodality page on what low-MCS latents are: dead, noise, or real."""

from collections import Counter

import numpy as np

from saejax.analysis.mcs import CLASSES
from saejax.experiments.bimodality import figures_classes
from saejax.experiments.bimodality.workdir import View
from saejax.report.page import Page
from saejax.report.rows import Rows, numbers, over_seeds, span

WORDS = {
    "dead": "they are dead",
    "noise": "they account for noise",
    "real": "they are real, and the larger dictionary did not find them",
    "idle": "none of the text's explanations fits: most are active often and have no effect",
}
SIDES = ("low", "high")


def section(page: Page, view: View) -> None:
    """Firing, effects and classes of low-MCS and high-MCS latents, and what they support."""
    study, rows = view.run["study"], view.rows("explanation")
    page.heading("Dead, rare, or real?")
    page.paragraph(
        "The text leaves three explanations of a low MCS open: such latents are dead, they "
        "account for noise, or they are meaningful and the larger dictionary just did not find "
        f"them. Up to {study['n_ablated']:,} latents of each dictionary, chosen at random, were "
        "taken out of the activation one by one, and then random directions with the same "
        "activations in its place. The effect of a latent is by how much this changes the "
        "predictions of the language model (nats for each time that it is active), divided by "
        "what a random direction changes: 1 is no more than random, however often and however "
        f"strongly a latent is active. It counts as an effect from {_limit(view)}. With this, a "
        "latent is"
    )
    page.points(
        [
            f"dead: active on none of {view.eval_tokens:,} evaluation tokens;",
            "real: not dead, and its effect is at or above the limit;",
            "noise: not dead, without such an effect, and rare: active on less than "
            f"{study['rare_below']:g} of the tokens;",
            "idle: not dead, without such an effect, and not rare; none of the text's "
            "explanations.",
        ]
    )
    page.paragraph(
        "An explanation is supported in a seed when more than half of its measured low-MCS "
        "latents are of that class, with the whole interval of their share. What the numbers say:"
    )
    page.points(
        [support([r for r in rows if r["d_sae"] == d], d, len(view.seeds)) for d in view.smaller]
    )
    _figures(page, view)
    if view.tables["explanation"]:
        _tables(page, view)


def _limit(view: View) -> str:
    """Where the limit lies, and how many random directions reach it."""
    limits = numbers(view.rows("explanation"), "effect_from")
    reached, n = 0, 0
    for d in view.smaller:
        _, random = _effects(view, d)
        limit = view.column("explanation", "effect_from", [d])
        known = ~np.isnan(random) & np.isfinite(limit)
        reached += int((known & (random >= limit)).sum())
        n += int(known.sum())
    if not np.isfinite(limits).any():
        return "a limit on that is not known here"
    share = f", which {100 * reached / n:.1f} % of other random directions reach" if n else ""
    return f"a limit of {span(limits, '.3g')} on (each dictionary has its own){share}"


def _effects(view: View, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Effects of latents and of other random directions, in units of a random direction's."""
    effect, control, other = (
        view.blank(d) if (found := view.array(name, d)) is None else found.astype(float)
        for name in ("effect", "control", "other_control")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return effect / control, other / control


def support(rows: Rows, d_sae: int, n_seeds: int) -> str:
    """Which explanation the seeds of one size support, in a sentence.

    Args:
        rows: of the table `explanation`, one a seed.
        d_sae: the size.
        n_seeds: how many seeds there are; all of them have to agree.
    """
    head, found = f"d_sae {d_sae:,}: ", [row["supported"] for row in rows]
    measured, low = (int(np.nansum(numbers(rows, name))) for name in ("low_n_measured", "low_n"))
    if not low:
        return f"{head}no latent has a low MCS, there is nothing to explain."
    if not measured:
        return f"{head}none of the {low:,} latents with a low MCS was measured."
    counts = {name: int(np.nansum(numbers(rows, f"low_count_{name}"))) for name in CLASSES}
    shares = ", ".join(f"{name} {100 * n / measured:.0f} %" for name, n in counts.items())
    figures = f"Of {measured:,} measured latents with a low MCS: {shares}."
    if len(found) == n_seeds and len(set(found)) == 1 and found[0] is not None:
        where = f"all {n_seeds} seeds agree" if n_seeds > 1 else "one seed"
        return f"{head}{WORDS[found[0]]} ({where}). {figures}"
    votes = [f"{n} of {n_seeds} for {name}" for name, n in Counter(found).items() if name]
    if not votes:
        return f"{head}undecided: no class holds more than half for sure. {figures}"
    return f"{head}undecided: the seeds do not agree ({', '.join(votes)}). {figures}"


def _figures(page: Page, view: View) -> None:
    study, largest = view.run["study"], view.sizes[-1]
    fired, compared = [], []
    for d in view.smaller:
        mcs, frequency = view.array("mcs", d, largest), view.array("frequency", d)
        if mcs is None or frequency is None:
            continue
        effect, random = _effects(view, d)
        limit = view.column("explanation", "effect_from", [d])[:, 0]
        title = f"{d:,} against {largest:,} latents"
        fired.append(figures_classes.Firing(title, mcs, frequency, effect, limit))
        # A dead latent has no random direction to be compared with.
        known = ~np.isnan(effect)
        groups = {
            f"{side} MCS": (effect[known & where], random[known & where])
            for side, where in (("low", mcs < view.cutoff), ("high", mcs >= view.cutoff))
        }
        compared.append(figures_classes.Effects(title, groups, limit))
    if not fired:
        return
    page.figure(
        "firing",
        "MCS of every latent against the share of tokens on which it is active; dead latents have "
        "a strip of their own. Colours: whether ablating it does more than ablating random "
        "directions.",
        figures_classes.firing(fired, view.cutoff, study["rare_below"]),
    )
    page.figure(
        "effects",
        "Effects of live latents with low and high MCS, and of other random directions in their "
        "place, in units of a random direction's. Boxes: middle half and median; whiskers: 5th to "
        f"95th percentile; dots: the rest. What is outside of {figures_classes.SHOWN[0]:g} to "
        f"{figures_classes.SHOWN[1]:g} is drawn at these ends.",
        figures_classes.effects(compared),
    )
    if view.rows("explanation"):
        shares = {name: _by_side(view, f"share_{name}") for name in CLASSES}
        measured = np.nan_to_num(_by_side(view, "n_measured"))
        page.figure(
            "classes",
            "What latents with low and high MCS are, as shares of those that were measured.",
            figures_classes.classes(shares, measured, view.smaller),
        )


def _by_side(view: View, name: str) -> np.ndarray:
    """A number of the low and the high side, [seeds, sizes, sides]."""
    sides = [view.column("explanation", f"{side}_{name}", view.smaller) for side in SIDES]
    return np.stack(sides, axis=-1)


def _tables(page: Page, view: View) -> None:
    first, keys = view.tables["explanation"][0], ("l1", "d_sae", "against")
    columns = ("n", "dead", "frequency", "effect", "nats", "n_measured")
    names = [name for name in columns if f"low_{name}" in first]
    names += [f"share_{name}" for name in CLASSES]
    rows = []
    for row in view.tables["explanation"]:
        head = {key: row[key] for key in keys}
        for side in SIDES:
            rows.append({**head, "mcs": side, **{name: row[f"{side}_{name}"] for name in names}})
    page.paragraph(
        "Means over seeds: number of latents, share of dead ones, median frequency and median "
        "effect of the live ones (effect: a random direction's is 1; nats: per firing), number of "
        "measured latents and the shares of the classes among them."
    )
    page.table(over_seeds(rows, (*keys, "mcs"), names), "explanation")
    ends = ("_from", "_to")
    rho = [name for name in first if name.startswith("rho_") and not name.endswith(ends)]
    page.paragraph(
        "Spearman's rank correlation of MCS with firing frequency, with being dead (1 or 0) and "
        "with the effect, of all latents and of the live ones:"
    )
    page.table(over_seeds(view.tables["explanation"], keys, rho), "explanation_correlations")
