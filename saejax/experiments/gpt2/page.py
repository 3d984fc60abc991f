"""The page of the GPT-2 study: dead latents, loss recovered, monosemanticity, the viewer."""

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from saejax.core.files import read_rows
from saejax.core.stats import LEVEL, mean_and_spread, share
from saejax.core.table import Table
from saejax.experiments.gpt2 import figures as pictures
from saejax.experiments.gpt2.claims import KEYS, values
from saejax.experiments.gpt2.published import GPT2, GPT2_EXPANSION
from saejax.experiments.language import page as language_page
from saejax.interpret.monosemanticity import over_seeds as over_runs
from saejax.interpret.study import name_of
from saejax.report import sweep
from saejax.report.page import Page
from saejax.report.rows import over_seeds
from saejax.results.workdir import read_run

MEASURES = (
    "dead",
    "dead_on_sample",
    "fires_rarely",
    "fvu",
    "l0",
    "loss",
    "recovered_zero",
    "recovered_mean",
)
# Labels shown on the page, of either half of one SAE.
LABELS_SHOWN = 25


class View(NamedTuple):
    """A workdir: what run.json, analysis.npz and analysis/NAME.jsonl hold."""

    path: Path
    run: dict[str, Any]
    arrays: dict[str, np.ndarray]
    tables: dict[str, list[dict[str, Any]]]

    @property
    def coords(self) -> dict[str, list[Any]]:
        """Values of l1, expansion, resample and seed."""
        return self.run["coords"]

    def grid(self, table: str, name: str, l1: float, way: str, **where: Any) -> np.ndarray:
        """One number of all seeds and expansions, [seeds, expansions]; NaN where there is none."""
        axes = self.coords["seed"], self.coords["expansion"]
        return values(self.tables[table], name, *axes, l1=l1, resample=way, **where)

    @property
    def labellers(self) -> list[str]:
        """Names of those who labelled."""
        return list(dict.fromkeys(row["labeller"] for row in self.tables["rates"]))


def build(path: Path) -> Page:
    """The page; arguments and errors as in `saejax.report.write`."""
    run, file = read_run(path), path / "analysis.npz"
    if not file.exists():
        raise ValueError(f"{file}: the run ended before its analysis, there is nothing to show")
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    files = {name: path / "analysis" / f"{name}.jsonl" for name in KEYS}
    view = View(
        path, run, arrays, {n: read_rows(f) if f.exists() else [] for n, f in files.items()}
    )
    page = Page(path, f"saejax: {len(view.tables['cells'])} dictionaries of a residual stream")
    if not run["finished"]:
        page.paragraph("This run did not finish: some of what it measures is absent.", warning=True)
    frozen = sum(row["fvu"] is None for row in view.tables["cells"])
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
    _maps(page, view)
    language_page.language_model(page, run)
    page.heading("All results")
    page.table(Table(view.tables["cells"]), "cells")
    page.heading("Settings")
    page.table(Table({"setting": k, "value": v} for k, v in _settings(run)))
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


def _texts(run: Mapping[str, Any], what: str) -> dict[str, dict[str, Any]]:
    """The text's percentages: title of the l1 -> way -> by expansion; none for other expansions."""
    if tuple(run["coords"]["expansion"]) != GPT2_EXPANSION:
        return {}
    ways = GPT2[what]
    return {_title(l1): {way: ways[way][l1] for way in ways} for l1 in ways["off"]}


def _title(l1: float) -> str:
    return f"L1 {l1:g}"


def _in_the_texts_form(view: View, at: dict[tuple[str, float], list[str]]) -> Table:
    """Rows (way, l1) of texts, a column for each expansion factor."""
    names = [f"{v:g}x" for v in view.coords["expansion"]]
    return Table(
        {"reviving": way, "l1": l1, **dict(zip(names, cells, strict=True))}
        for (way, l1), cells in at.items()
    )


def _spread(numbers: np.ndarray, spec: str = ".1f") -> list[str]:
    """Mean and standard deviation over seeds of percentages, in words, a text for each
    expansion."""
    means, spreads = mean_and_spread(numbers)
    return [
        "" if np.isnan(m) else f"{m:{spec}} %" + ("" if np.isnan(s) else f" ± {s:{spec}}")
        for m, s in zip(means, spreads, strict=True)
    ]


def _published(rows: Mapping[tuple[str, float], Any]) -> Table:
    """The text's percentages by (way, l1), in its form."""
    return Table(
        {
            "published, GPT-2": way,
            "l1": l1,
            **{f"{e:g}x": f"{v:.4g} %" for e, v in zip(GPT2_EXPANSION, row, strict=True)},
        }
        for (way, l1), row in rows.items()
    )


def _by_way(what: str) -> dict[tuple[str, float], Any]:
    return {(way, l1): row for way, rows in GPT2[what].items() for l1, row in rows.items()}


def _dead(page: Page, view: View) -> None:
    page.heading("Dead latents")
    coords = view.coords
    batches = view.run["sweep"]["eval_batches"] * view.run["sweep"]["batch_size"]
    dead = {
        (way, l1): 100 * view.grid("cells", "dead", l1, way)
        for way, l1 in product(coords["resample"], coords["l1"])
    }
    page.paragraph(
        f"Share of the latents that are never above {view.run['study']['dead_threshold']:g} on the "
        f"{batches:,} held-out activations; mean and standard deviation over seeds. On more text "
        "fewer count as dead, and the ways to revive may compare otherwise: the column "
        "dead_on_sample of the last table has the share on the sample of the viewer."
    )
    panels = {_title(l1): {way: dead[way, l1] for way in coords["resample"]} for l1 in coords["l1"]}
    page.figure(
        "dead",
        "Dead latents by expansion factor: every dot is a seed.",
        pictures.over_expansions(
            panels,
            coords["expansion"],
            "dead latents, % of d_sae",
            _texts(view.run, "dead"),
            (-2, 102),
        ),
    )
    page.table(_in_the_texts_form(view, {at: _spread(v) for at, v in dead.items()}), "dead")
    page.paragraph("The text's:")
    page.table(_published(_by_way("dead")), "dead_published")
    if "off" in coords["resample"] and len(coords["resample"]) > 1:
        page.heading("Dead latents without reviving, less those with it", level=3)
        fewer = {(w, l1): dead["off", l1] - v for (w, l1), v in dead.items() if w != "off"}
        page.table(
            _in_the_texts_form(view, {at: _spread(v) for at, v in fewer.items()}), "dead_delta"
        )
        page.paragraph("The text's, off less on:")
        off, on = (GPT2["dead"][way] for way in ("off", "on"))
        delta = {("off less on", l1): np.subtract(off[l1], on[l1]) for l1 in off}
        page.table(_published(delta), "dead_delta_published")
    _dead_over_training(page, view)


def _dead_over_training(page: Page, view: View) -> None:
    coords = view.coords
    if "history/dead_latents" not in view.arrays:
        return
    axes = coords["seed"], coords["expansion"], coords["l1"], coords["resample"]
    n_evaluations = len(view.arrays["steps"])
    history = view.arrays["history/dead_latents"].reshape(n_evaluations, *map(len, axes))
    panels = {
        f"{_title(l1)}, {e:g}x": {
            way: 100 * history[:, :, i, j, k] / view.run["d_sae"][i]
            for k, way in enumerate(coords["resample"])
        }
        for j, l1 in enumerate(coords["l1"])
        for i, e in enumerate(coords["expansion"])
    }
    page.figure(
        "dead_over_training",
        "Dead latents over training, mean and standard deviation over seeds. Thin lines mark "
        "resampling; an evaluation in such a step sees the revived latents before they are "
        "trained.",
        pictures.over_training(
            view.arrays["steps"], panels, "dead, % of d_sae", view.run["sweep"]["resample"]["every"]
        ),
    )


def _kept(page: Page, view: View) -> None:
    losses, coords = view.run["losses"], view.coords
    page.heading("What the reconstructions keep")
    page.paragraph(
        f"Loss of the language model on validation text: {language_page.nats(losses['clean'])} as "
        f"it is, {language_page.nats(losses['mean'])} with the mean in the place of the residual "
        f"stream, {language_page.nats(losses['zero'])} with zeros. The share recovered is that of "
        "the difference which the reconstruction saves: 1 is the model as it is, 0 the ablation."
    )
    for name, text in (("recovered_mean", "loss recovered, against the mean"), ("fvu", "fvu")):
        panels = {
            _title(l1): {way: view.grid("cells", name, l1, way) for way in coords["resample"]}
            for l1 in coords["l1"]
        }
        caption = {
            "recovered_mean": "Share of the loss that is recovered; 1 is the model as it is.",
            "fvu": "Fraction of variance unexplained on the held-out activations; lower is better.",
        }[name]
        page.figure(name, caption, pictures.over_expansions(panels, coords["expansion"], text))
    rows = ({**row, "expansion": row["ratio"]} for row in view.tables["cells"])
    page.table(over_seeds(list(rows), ("l1", "expansion", "resample"), MEASURES), "kept")


def _monosemantic(page: Page, view: View) -> None:
    coords, study = view.coords, view.run["study"]
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
        rates = {
            (way, l1): [
                view.grid("rates", name, l1, way, labeller=labeller) for name in ("rate", "judged")
            ]
            for way, l1 in product(coords["resample"], coords["l1"])
        }
        table = {at: _with_intervals(*parts) for at, parts in rates.items()}
        page.table(_in_the_texts_form(view, table), f"monosemantic_{_plain(labeller)}")
        panels = {
            _title(l1): {w: 100 * rates[w, l1][0] for w in coords["resample"]}
            for l1 in coords["l1"]
        }
        page.figure(
            f"monosemantic_{_plain(labeller)}",
            f"Share of the judged latents that have one theme, by {labeller}: every dot is a seed.",
            pictures.over_expansions(
                panels,
                coords["expansion"],
                "monosemantic, % of those judged",
                _texts(view.run, "monosemantic"),
                (-2, 102),
            ),
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
    _labels(page, view)


def _plain(name: str) -> str:
    """A labeller's name, fit for a file name."""
    return "".join(c if c.isalnum() else "-" for c in name)


def _with_intervals(rate: np.ndarray, judged: np.ndarray) -> list[str]:
    """Mean rates as percentages, each with the wider of two intervals at either end.

    That of the mean over seeds knows how runs differ, and has no width where they happen to agree;
    that of the latents of all seeds together knows how few were judged.

    Args:
        rate: [seeds, expansions].
        judged: latents that the rates are of, likewise.
    """
    out = []
    for own, n in zip(rate.T, judged.T, strict=True):
        kept = np.isfinite(own)
        if not kept.any():
            out.append("")
            continue
        n = n[kept].astype(int)
        runs = over_runs(own[kept])
        latents = share(round(float((own[kept] * n).sum())), int(n.sum()), LEVEL)
        low, high = np.nanmin([runs.low, latents.low]), np.nanmax([runs.high, latents.high])
        out.append(f"{100 * runs.value:.0f} % ({100 * low:.0f} to {100 * high:.0f})")
    return out


def _shown(view: View) -> Iterator[dict[str, Any]]:
    """SAEs whose maps and labels are shown: the first seed's second largest, each l1, off and
    on."""
    expansions = sorted(view.coords["expansion"])
    ratio, seed = expansions[max(0, len(expansions) - 2)], view.coords["seed"][0]
    ways = view.coords["resample"]
    for l1, way in product(view.coords["l1"], [w for w in ways if w in ("off", "on")] or ways[:1]):
        yield {"l1": l1, "ratio": ratio, "resample": way, "seed": seed}


def _rows_of(view: View, cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Labels of one SAE by the last labeller."""
    own = {**cell, "labeller": view.labellers[-1]} if view.labellers else dict(cell)
    return [row for row in view.tables["labels"] if all(row[k] == v for k, v in own.items())]


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


def _settings(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    parts = {name: run[name] for name in ("study", "sweep", "packing", "store", "corpus")}
    labellers = {f"labeller {i + 1}": labeller for i, labeller in enumerate(run["labellers"])}
    return language_page.settings(run, parts | labellers)
