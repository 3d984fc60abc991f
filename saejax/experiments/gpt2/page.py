"""The page of the GPT-2 study: dead latents, loss recovered, monosemanticity, the viewer."""

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from saejax.core.stats import LEVEL, mean_and_spread, share
from saejax.core.table import Table
from saejax.experiments.gpt2 import figures as pictures
from saejax.experiments.gpt2.claims import KEYS, values
from saejax.experiments.gpt2.published import GPT2, GPT2_EXPANSION
from saejax.experiments.language import page as language_page
from saejax.experiments.language.workdirs import Contents, read
from saejax.interpret.monosemanticity import over_seeds as over_runs
from saejax.interpret.study import name_of
from saejax.report import sweep
from saejax.report.page import Page
from saejax.report.rows import over_seeds

MEASURES = (
    *("dead", "dead_on_sample", "fires_rarely", "fvu", "l0", "loss"),
    *("recovered_zero", "recovered_mean"),
)
# Labels shown on the page, of either half of one SAE.
LABELS_SHOWN = 25


class View(Contents):
    """The workdir of a run of the study."""

    @property
    def coords(self) -> dict[str, list[Any]]:
        """Values of l1, expansion, resample and seed."""
        return self.run["coords"]

    @property
    def labellers(self) -> list[str]:
        """Names of those who labelled."""
        return list(dict.fromkeys(row["labeller"] for row in self.tables["rates"]))

    def each(self, table: str, name: str, **where: Any) -> dict[tuple[str, float], np.ndarray]:
        """One number by (way, l1), [seeds, expansions]; NaN where there is none."""
        axes = self.coords["seed"], self.coords["expansion"]
        return {
            (way, l1): values(self.tables[table], name, *axes, l1=l1, resample=way, **where)
            for way, l1 in product(self.coords["resample"], self.coords["l1"])
        }

    def picture(
        self,
        numbers: Mapping[tuple[str, float], np.ndarray],
        ylabel: str,
        published: str = "",
        limits: tuple[float, float] | None = None,
    ) -> Figure:
        """Numbers by (way, l1) over the expansion factor.

        Args:
            numbers: as `each` has them.
            ylabel: what they are.
            published: which of the text's percentages are drawn with them, where expansions agree.
            limits: of the y axis.
        """
        panels: dict[str, dict[str, np.ndarray]] = {_title(l1): {} for l1 in self.coords["l1"]}
        for (way, l1), cells in numbers.items():
            panels[_title(l1)][way] = cells
        theirs: dict[str, dict[str, Any]] = {}
        if published and tuple(self.coords["expansion"]) == GPT2_EXPANSION:
            for (way, l1), row in _by_way(published).items():
                theirs.setdefault(_title(l1), {})[way] = row
        return pictures.over_expansions(panels, self.coords["expansion"], ylabel, theirs, limits)

    def words(self, texts: Mapping[tuple[str, float], list[str]]) -> Table:
        """Texts by (way, l1) as rows, a column for each expansion factor."""
        names = [f"{v:g}x" for v in self.coords["expansion"]]
        return Table(
            {"reviving": way, "l1": l1, **dict(zip(names, cells, strict=True))}
            for (way, l1), cells in texts.items()
        )


def build(path: Path) -> Page:
    """The page; arguments and errors as in `saejax.report.write`."""
    view = View(*read(path, KEYS))
    run, cells = view.run, view.tables["cells"]
    page = Page(path, f"saejax: {len(cells)} dictionaries of a residual stream")
    if not run["finished"]:
        page.paragraph("This run did not finish: some of what it measures is absent.", warning=True)
    frozen = sum(row["fvu"] is None for row in cells)
    if frozen:
        page.paragraph(
            f"{frozen} SAEs were frozen as not finite; they have no numbers and no labels.",
            warning=True,
        )
    page.paragraph(_in_words(view))
    if (path / "viewer" / "index.html").exists():
        page.link(
            "viewer/index.html", "Open the viewer: every latent with its contexts and its label"
        )
    language_page.stages(page, run)
    language_page.claims(page, path)
    _dead(page, view)
    _kept(page, view)
    _monosemantic(page, view)
    _labels(page, view)
    _maps(page, view)
    language_page.language_model(page, run)
    page.heading("All results")
    page.table(Table(cells), "cells")
    page.heading("Settings")
    parts = {name: run[name] for name in ("study", "sweep", "packing", "store", "corpus")}
    parts |= {f"labeller {i + 1}": labeller for i, labeller in enumerate(run["labellers"])}
    page.table(language_page.settings(run, parts))
    sweep.repeat(page, run)
    return page


def _in_words(view: View) -> str:
    run, coords = view.run, view.coords
    lm, trained = run["lm"], run["sweep"]
    model = "A language model" if "pretrained" not in lm else lm["pretrained"]["name"]
    rule = trained["resample"]
    revival = f"resampling every {rule['every']:,} steps" if rule["every"] else "no resampling"
    if rule["ghost_after"]:
        revival += f", ghost gradients after {rule['ghost_after']:,} silent steps"
    return (
        f"{model} of {lm['config']['n_layers']} layers with {lm['parameters']:,} weights; "
        f"{run['store']['rows']:,} activations of {run['d_in']} numbers were read at "
        f"{run['hook']}. On them dictionaries of {', '.join(f'{d:,}' for d in run['d_sae'])} "
        f"latents were trained for L1 {', '.join(f'{v:g}' for v in coords['l1'])}, ways to revive "
        f"dead latents: {', '.join(coords['resample'])} ({revival}), {len(coords['seed'])} seeds; "
        f"{trained['steps']:,} steps of {trained['batch_size']:,} activations on {run['device']}. "
        f"A latent is dead when it is never above {run['study']['dead_threshold']:g}."
    )


def _title(l1: float) -> str:
    return f"L1 {l1:g}"


def _spread(numbers: np.ndarray) -> list[str]:
    """Mean and standard deviation over seeds of percentages, a text for each expansion."""
    return [
        "" if np.isnan(mean) else f"{mean:.1f} %" + ("" if np.isnan(sd) else f" ± {sd:.1f}")
        for mean, sd in zip(*mean_and_spread(numbers), strict=True)
    ]


def _published(rows: Mapping[tuple[str, float], Any]) -> Table:
    """The text's percentages by (way, l1), in its form."""
    names = [f"{expansion:g}x" for expansion in GPT2_EXPANSION]
    return Table(
        {"published, GPT-2": way, "l1": l1}
        | {name: f"{value:.4g} %" for name, value in zip(names, row, strict=True)}
        for (way, l1), row in rows.items()
    )


def _by_way(what: str) -> dict[tuple[str, float], Any]:
    return {(way, l1): row for way, rows in GPT2[what].items() for l1, row in rows.items()}


def _dead(page: Page, view: View) -> None:
    page.heading("Dead latents")
    ways = view.coords["resample"]
    batches = view.run["sweep"]["eval_batches"] * view.run["sweep"]["batch_size"]
    dead = {at: 100 * share for at, share in view.each("cells", "dead").items()}
    page.paragraph(
        f"Share of the latents that are never above {view.run['study']['dead_threshold']:g} on the "
        f"{batches:,} held-out activations; mean and standard deviation over seeds. On more text "
        "fewer count as dead, and the ways to revive may compare otherwise: the column "
        "dead_on_sample of the last table has the share on the sample of the viewer."
    )
    page.figure(
        "dead",
        "Dead latents by expansion factor: every dot is a seed.",
        view.picture(dead, "dead latents, % of d_sae", "dead", (-2, 102)),
    )
    page.table(view.words({at: _spread(v) for at, v in dead.items()}), "dead")
    page.paragraph("The text's:")
    page.table(_published(_by_way("dead")), "dead_published")
    if "off" in ways and len(ways) > 1:
        page.heading("Dead latents without reviving, less those with it", level=3)
        fewer = {(w, l1): _spread(dead["off", l1] - v) for (w, l1), v in dead.items() if w != "off"}
        page.table(view.words(fewer), "dead_delta")
        page.paragraph("The text's, off less on:")
        off, on = (GPT2["dead"][way] for way in ("off", "on"))
        delta = {("off less on", l1): np.subtract(off[l1], on[l1]) for l1 in off}
        page.table(_published(delta), "dead_delta_published")
    if "history/dead_latents" in view.arrays:
        _dead_over_training(page, view)


def _dead_over_training(page: Page, view: View) -> None:
    coords, steps = view.coords, view.arrays["steps"]
    shape = [len(coords[axis]) for axis in ("seed", "expansion", "l1", "resample")]
    history = view.arrays["history/dead_latents"].reshape(len(steps), *shape)
    panels = {
        f"{_title(l1)}, {e:g}x": {
            way: 100 * history[:, :, i, j, k] / view.run["d_sae"][i]
            for k, way in enumerate(coords["resample"])
        }
        for j, l1 in enumerate(coords["l1"])
        for i, e in enumerate(coords["expansion"])
    }
    every = view.run["sweep"]["resample"]["every"]
    page.figure(
        "dead_over_training",
        "Dead latents over training, mean and standard deviation over seeds. Thin lines mark "
        "resampling; an evaluation in such a step sees the revived latents before they are "
        "trained.",
        pictures.over_training(steps, panels, "dead, % of d_sae", every),
    )


def _kept(page: Page, view: View) -> None:
    losses = view.run["losses"]
    page.heading("What the reconstructions keep")
    page.paragraph(
        f"Loss of the language model on validation text: {language_page.nats(losses['clean'])} as "
        f"it is, {language_page.nats(losses['mean'])} with the mean in the place of the residual "
        f"stream, {language_page.nats(losses['zero'])} with zeros. The share recovered is that of "
        "the difference which the reconstruction saves: 1 is the model as it is, 0 the ablation."
    )
    page.figure(
        "recovered_mean",
        "Share of the loss that is recovered; 1 is the model as it is.",
        view.picture(view.each("cells", "recovered_mean"), "loss recovered, against the mean"),
    )
    page.figure(
        "fvu",
        "Fraction of variance unexplained on the held-out activations; lower is better.",
        view.picture(view.each("cells", "fvu"), "fvu"),
    )
    rows = [{**row, "expansion": row["ratio"]} for row in view.tables["cells"]]
    page.table(over_seeds(rows, ("l1", "expansion", "resample"), MEASURES), "kept")


def _monosemantic(page: Page, view: View) -> None:
    study = view.run["study"]
    page.heading("Monosemanticity")
    page.paragraph(
        f"The {study['n_labelled']} latents of highest and the {study['n_labelled']} of lowest "
        f"selectivity, mean activation / ln(firings + 1), among those with "
        f"{study['least_firings']} firings or more on {view.run['tokens_looked_at']:,} tokens. The "
        "rate is the share of them that a labeller finds a theme for. Mean over seeds with a 95 % "
        "interval: at either end the wider of Student's over seeds and Wilson's over all latents."
    )
    if view.labellers[:1] == ["offline"]:
        page.paragraph(
            "The offline labeller looks for one rule of tokens and neighbours that explains where "
            "a latent is active. It does not know meanings, so its rates are lower bounds, not "
            "comparable with those of a language model that reads the contexts, as in the text."
        )
    for labeller in view.labellers:
        page.heading(f"Monosemantic latents by {labeller}", level=3)
        rates = view.each("rates", "rate", labeller=labeller)
        judged = view.each("rates", "judged", labeller=labeller)
        name = f"monosemantic_{''.join(c if c.isalnum() else '-' for c in labeller)}"
        page.table(view.words({at: _with_intervals(rates[at], judged[at]) for at in rates}), name)
        shares = {at: 100 * rate for at, rate in rates.items()}
        ylabel = "monosemantic, % of those judged"
        page.figure(
            name,
            f"Share of the judged latents that have one theme, by {labeller}: every dot is a seed.",
            view.picture(shares, ylabel, "monosemantic", (-2, 102)),
        )
    page.paragraph("The text's, one run, labels by a language model:")
    page.table(_published(_by_way("monosemantic")), "monosemantic_published")
    if view.tables["agreement"]:
        page.heading("How far the two labellers agree", level=3)
        page.paragraph(
            "Lowest and highest rate by either; share of latents of which both say the same; "
            "Cohen's kappa, agreement beyond chance."
        )
        page.table(Table(view.tables["agreement"]), "agreement")


def _with_intervals(rate: np.ndarray, judged: np.ndarray) -> list[str]:
    """Mean rates as percentages, each with the wider of two intervals at either end.

    That of the mean over seeds knows how runs differ, and has no width where they happen to agree;
    that of the latents of all seeds together knows how few were judged.

    Args:
        rate: [seeds, expansions].
        judged: latents that the rates are of, likewise.
    """
    out = []
    for of_seeds, n in zip(rate.T, judged.T, strict=True):
        kept = np.isfinite(of_seeds)
        if not kept.any():
            out.append("")
            continue
        of_seeds, n = of_seeds[kept], n[kept].astype(int)
        runs = over_runs(of_seeds)
        latents = share(round(float((of_seeds * n).sum())), int(n.sum()), LEVEL)
        low, high = np.nanmin([runs.low, latents.low]), np.nanmax([runs.high, latents.high])
        out.append(f"{100 * runs.value:.0f} % ({100 * low:.0f} to {100 * high:.0f})")
    return out


def _shown(view: View) -> Iterator[dict[str, Any]]:
    """SAEs whose maps and labels are shown: each l1, off and on, of one size and seed."""
    ratio = sorted(view.coords["expansion"])[-2:][0]
    seed, ways = view.coords["seed"][0], view.coords["resample"]
    for l1, way in product(view.coords["l1"], [w for w in ways if w in ("off", "on")] or ways[:1]):
        yield {"l1": l1, "ratio": ratio, "resample": way, "seed": seed}


def _rows_of(view: View, cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Labels of one SAE by the last labeller."""
    where = {**cell, "labeller": view.labellers[-1]} if view.labellers else cell
    return [row for row in view.tables["labels"] if all(row[k] == v for k, v in where.items())]


def _labels(page: Page, view: View) -> None:
    page.keep_table(Table(view.tables["labels"]), "labels")
    for cell in _shown(view):
        rows = [row for row in _rows_of(view, cell) if row["half"] == "top"][:LABELS_SHOWN]
        if rows:
            page.heading(f"Latents of highest selectivity, {_name(cell)}", level=3)
            names = ("latent", "label", "selectivity", "firings", "highest")
            page.table(Table({name: row[name] for name in names} for row in rows), words=True)
            break
    page.paragraph("All labels are in tables/labels.csv, and in the viewer.")


def _name(cell: Mapping[str, Any]) -> str:
    return (
        f"{cell['ratio']:g}x, L1 {cell['l1']:g}, resample {cell['resample']}, seed {cell['seed']}"
    )


def _maps(page: Page, view: View) -> None:
    page.heading("What labelled latents have in common")
    page.paragraph(
        "Correlation of the activations of every two labelled latents, ordered so that correlated "
        "ones stand together."
    )
    for number, cell in enumerate(_shown(view)):
        key = name_of(cell)
        correlation = view.arrays.get(f"correlation/{key}")
        rows = {row["latent"]: row for row in _rows_of(view, cell)}
        if correlation is None or len(correlation) < 2:
            continue
        latents = [int(i) for i in view.arrays[f"labelled/{key}"]]
        names = [f"{i}: {_short(rows[i]['label'])}" if i in rows else str(i) for i in latents]
        top = [i in rows and rows[i]["half"] == "top" for i in latents]
        page.figure(
            f"correlation_{number}",
            f"Labelled latents of {_name(cell)}.",
            pictures.correlation_map(correlation, names, top, _name(cell)),
        )


def _short(label: str, most: int = 34) -> str:
    """A label that fits beside a picture; what cannot be printed is left out."""
    text = "".join(c for c in label if c.isprintable())
    return text if len(text) <= most else f"{text[: most - 1]}…"
