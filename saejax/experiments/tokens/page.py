"""The page of the tokens study: which latents tell which groups of tokens apart."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from saejax.analysis.token_groups import order_latents, own_rate, separation
from saejax.core.table import Table
from saejax.data.token_table import TokenTable, from_json
from saejax.experiments.tokens import figures
from saejax.report import sweep
from saejax.report.page import Page
from saejax.results.plots.panels import Intervals
from saejax.results.result import Result
from saejax.results.saving import load
from saejax.sae.relu import encode

MEASURED = {
    "fvu": "fraction of variance unexplained",
    "l0": "active latents for a token",
    "dead_latents": "dead latents",
}
# What a picture can show; the tables hold everything.
MOST_TOKENS, MOST_GROUPS = 48, 24


class Cells(NamedTuple):
    """All SAEs of a run on all tokens.

    Attributes:
        h: activations [seed, l1, tokens, d_sae].
        separates: [seed, l1, groups, d_sae], and so are the next three; see
            `saejax.analysis.token_groups`.
        purity: of every latent for every group.
        gap: likewise.
        own: whether the latent is the group's own.
        trained: [seed, l1], whether the SAE trained to the end instead of freezing.
    """

    h: np.ndarray
    separates: np.ndarray
    purity: np.ndarray
    gap: np.ndarray
    own: np.ndarray
    trained: np.ndarray


def analyse(result: Result, table: TokenTable, own_purity: float) -> Cells:
    """Activations and separation of every SAE of a run.

    Args:
        result: of the tokens study.
        table: its tokens.
        own_purity: see `saejax.analysis.token_groups.separation`.
    """
    seeds, l1 = result.coords["seed"], result.coords["l1"]
    cells = [result.dictionary(seed=s, l1=k) for s in seeds for k in l1]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *cells)
    h = jax.jit(jax.vmap(encode, in_axes=(0, None)))(stacked, jnp.asarray(table.x))
    found = jax.jit(partial(separation, member=table.member, own_purity=own_purity))(h)
    trained = result.final["frozen_at"].ravel() < 0
    arrays = (h, found.separates, found.purity, found.gap, found.own, trained)
    return Cells(*(np.asarray(a).reshape(len(seeds), len(l1), *a.shape[1:]) for a in arrays))


def build(path: Path) -> Page:
    """The page; arguments and errors as in `saejax.report.write`."""
    result = load(path)
    table = from_json(result.run["study"]["table"])
    l1, seeds = result.coords["l1"], result.coords["seed"]
    n = len(table.labels)
    page = Page(path, f"saejax: what {len(result.cells())} SAEs make of {n} tokens")
    sweep.warnings(page, result)
    page.paragraph(
        f"{len(seeds)} SAEs of {result.d_sae[0]} latents for each of {len(l1)} L1 coefficients, "
        f"trained together for {int(result.steps[-1]):,} steps on all {n} tokens of "
        f"{table.x.shape[1]} numbers each, on {result.run['device']}."
    )
    if result.run["finished"]:
        _findings(page, result, table)
    page.heading("Reconstruction and sparsity")
    grids = {title: result.grid(metric) for metric, title in MEASURED.items()}
    measured = {title: (mean[0], spread[0]) for title, (mean, spread) in grids.items()}
    page.figure(
        "against_l1",
        "Mean and standard deviation over seeds, on the tokens themselves. Dead latents respond to "
        "none of them.",
        figures.against_l1(measured, l1),
    )
    page.heading("The tokens")
    page.table(_as_table(table), "tokens", words=True)
    sweep.ending(page, result)
    return page


def _findings(page: Page, result: Result, table: TokenTable) -> None:
    l1, seeds, groups = result.coords["l1"], result.coords["seed"], list(table.groups)
    own_purity = result.run["study"]["own_purity"]
    cells = analyse(result, table, own_purity)
    of_l1 = np.flatnonzero(cells.trained.any(0))
    kept = {int(j): cells.own[cells.trained[:, j], j] for j in of_l1}
    rates = {j: own_rate(own) for j, own in kept.items()}
    rows = [
        {
            "group": name,
            "l1": l1[j],
            "seeds": len(kept[j]),
            "share_with_own_latent": rate.share[g],
            "low": rate.low[g],
            "high": rate.high[g],
            "mean_own_latents": rate.mean_latents[g],
        }
        for j, rate in rates.items()
        for g, name in enumerate(groups)
    ]
    if not rows:
        page.paragraph("Every SAE was frozen: there are no latents to look at.", warning=True)
        return

    page.heading("Which groups get a latent of their own?")
    page.paragraph(
        "A latent separates a group of tokens when every token of the group activates it more than "
        "any other token does. It is the group's own when moreover its purity, the share of its "
        f"activation that falls on the group, is {own_purity:g} or more."
    )
    shown = groups[:MOST_GROUPS]
    parts = ([rate.share, rate.low, rate.high] for rate in rates.values())
    shares = Intervals(*np.array([*parts], float)[:, :, : len(shown)].transpose(1, 2, 0))
    more = f" The first {len(shown)} of {len(groups)} groups." if len(shown) < len(groups) else ""
    page.figure(
        "own_latents",
        f"Share of the seeds in which at least one latent is the group's own.{more}",
        figures.own_rates(shares, shown, [l1[j] for j in rates], len(seeds)),
    )
    page.table(Table(rows), "groups")
    _latents(page, result, table, cells)


def _latents(page: Page, result: Result, table: TokenTable, cells: Cells) -> None:
    l1, seeds = result.coords["l1"], result.coords["seed"]
    seed = next(s for s in range(len(seeds)) if cells.trained[s].any())
    order = order_latents(cells.h)
    panels, names = {}, []
    for j in np.flatnonzero(cells.trained[seed]):
        h = cells.h[seed, j][:, order[seed, j]]
        n_live = int((h > 0).any(0).sum())
        h = h[:MOST_TOKENS]
        shown = (h > 0).any(0)
        if shown.any():
            title = f"L1 {l1[j]:.4g}: {n_live} live latents, {h.shape[1] - n_live} dead"
            panels[title] = h[:, shown]
            names.append([str(i) for i in order[seed, j][shown]])
    page.heading("What every latent responds to")
    more = f" The first {MOST_TOKENS} tokens." if len(table.labels) > MOST_TOKENS else ""
    if panels:
        page.figure(
            "responses",
            f"Activation of every live latent of seed {seeds[seed]} on every token; latents that "
            f"respond to the same tokens stand side by side.{more}",
            figures.responses(panels, names, table.labels[:MOST_TOKENS]),
        )
    rows = []
    for s, j in np.argwhere(cells.trained):
        live = (i for i in order[s, j] if cells.h[s, j, :, i].max() > 0)
        where = {"seed": seeds[s], "l1": l1[j]}
        rows += [where | _row(cells, int(s), int(j), int(i), table) for i in live]
    page.paragraph(
        "Each live latent, the group that it separates (the one of largest purity where there are "
        "several) with purity and gap (the distance of the group from the other tokens, in units "
        "of the latent's largest activation), the tokens on which it reaches half of that, and "
        f"other groups that it separates, with their purity. Seed {seeds[seed]} "
        f"is shown; tables/latents.csv has all {len(seeds)} seeds."
    )
    page.keep_table(Table(rows), "latents")
    page.table(Table(row for row in rows if row["seed"] == seeds[seed]), words=True)


def _row(cells: Cells, s: int, j: int, latent: int, table: TokenTable) -> dict[str, Any]:
    """What one latent responds to and separates."""
    groups, h = list(table.groups), cells.h[s, j, :, latent]
    purity, gap = cells.purity[s, j, :, latent], cells.gap[s, j, :, latent]
    separated = np.flatnonzero(cells.separates[s, j, :, latent])
    separated = separated[np.argsort(-purity[separated], kind="stable")]
    strongest = [t for t in np.argsort(-h, kind="stable") if h[t] >= 0.5 * h.max()]
    first = separated[0] if separated.size else None
    return {
        "latent": latent,
        "separates": "" if first is None else groups[first],
        "purity": None if first is None else float(purity[first]),
        "gap": None if first is None else float(gap[first]),
        "own": bool(first is not None and cells.own[s, j, first, latent]),
        "max_activation": float(h.max()),
        "responds_to": ", ".join(table.labels[t] for t in strongest[:8]),
        "also_separates": ", ".join(f"{groups[g]} ({purity[g]:.2f})" for g in separated[1:]),
    }


def _as_table(table: TokenTable) -> Table:
    # A column of numbers may be called "token" too; none can have the empty name.
    first = "" if "token" in table.columns else "token"
    return Table(
        {
            first: label,
            "groups": ", ".join(own),
            **{name: float(v) for name, v in zip(table.columns, row, strict=True)},
        }
        for label, own, row in zip(table.labels, table.groups_of, table.x, strict=True)
    )
