"""The page of the bimodality study: what the dictionaries of a language model have in common."""

from pathlib import Path
from typing import Any

import numpy as np

from saejax.core.table import Table
from saejax.experiments.bimodality import page_classes, page_mcs
from saejax.experiments.bimodality.claims import KEYS
from saejax.experiments.bimodality.workdir import View
from saejax.experiments.language import figures
from saejax.experiments.language import page as language_page
from saejax.experiments.language.page import final_loss, nats, number
from saejax.experiments.language.workdirs import read
from saejax.report import sweep
from saejax.report.page import Page
from saejax.report.rows import over_seeds
from saejax.results.plots.panels import Intervals

# Tables whose means over seeds are shown; the others have a row a seed on the page.
KEPT = ("cells", "split", "correlation", "explanation")
MEASURES = (
    *("fvu", "l0", "dead_latents", "loss", "recovered_zero", "recovered_mean"),
    *("mmcs_to_largest", "mmcs_to_other_seeds"),
)


def build(path: Path) -> Page:
    """The page; arguments and errors as in `saejax.report.write`."""
    view = View(*read(path, KEYS))
    n = len(view.run["coords"]["l1"]) * len(view.sizes) * len(view.seeds)
    page = Page(path, f"saejax: what {n} dictionaries of one language model have in common")
    _warnings(page, view)
    page.paragraph(_in_words(view))
    language_page.stages(page, view.run)
    language_page.claims(page, view.path, view.l1)
    language_page.language_model(page, view.run)
    _dictionaries(page, view)
    if view.smaller:
        page_mcs.sections(page, view)
        page_classes.section(page, view)
    else:
        page.paragraph("There is one size only, and so nothing to compare it with.", warning=True)
    _ending(page, view)
    return page


def _warnings(page: Page, view: View) -> None:
    if not view.run["finished"]:
        page.paragraph(
            "This run did not finish: what it had measured is shown, and some of it may be absent.",
            warning=True,
        )
    # Whether emd and law have rows depends on what was found, the others on the number of sizes.
    due = ["cells", *(("modes", "split", "explanation") if len(view.sizes) > 1 else ())]
    due += ["correlation"] if len(view.sizes) > 2 else []
    if absent := [name for name in due if not view.tables[name]]:
        page.paragraph(f"Tables without rows: {', '.join(absent)}.", warning=True)


def _in_words(view: View) -> str:
    """Model, text, activations, dictionaries and device, a sentence or two each."""
    run, config = view.run, view.run["lm"]["config"]
    corpus, stored, coords = run["corpus"], run["store"], run["coords"]
    source = ", ".join(f"{k} {v}" if k != "type" else str(v) for k, v in corpus["source"].items())
    seconds = run["sweep"]["train_seconds"]
    took = "" if seconds is None else f" in {seconds:,.0f} s"
    l1 = ", ".join(f"{v:g}" for v in coords["l1"])
    n_seeds = len(view.seeds)
    return (
        f"A language model of {config['n_layers']} layers with {number(run['lm']['parameters'])} "
        f"weights was trained on {number(corpus['tokens']['train'])} tokens ({source}; "
        f"{number(corpus['text_megabytes'], '.3g')} megabytes of text in all); its loss on the "
        f"validation text is {nats(final_loss(run))}. {number(stored['rows'])} activations of "
        f"{run['d_in']} numbers were read at {run['hook']}. On them dictionaries of "
        f"{', '.join(f'{d:,}' for d in view.sizes)} latents were trained for L1 {l1} and "
        f"{n_seeds} seed{'s' if n_seeds > 1 else ''} each, {number(run['sweep']['steps'])} steps "
        f"of {number(run['sweep']['batch_size'])} activations{took}, on {run['device']}. Figures "
        f"are those of L1 {view.l1:g}; tables have every L1. MCS is the maximum cosine similarity "
        f"of a latent with those of another dictionary; {view.cutoff:g} and more is high. "
        f"Intervals are of level {run['study']['level']:g}."
    )


def _dictionaries(page: Page, view: View) -> None:
    page.heading("The dictionaries")
    losses = view.run["losses"]
    page.paragraph(
        f"Loss of the language model on the evaluation text: {nats(losses['clean'])} as it is, "
        f"{nats(losses['mean'])} with the mean in place of the activation, {nats(losses['zero'])} "
        "with zeros in its place. The loss recovered by a dictionary is the share of the "
        "difference that its reconstruction saves: 1 is the model as it is, 0 the ablation. Where "
        "the mean costs less than zeros, the share recovered against it is the stricter one. fvu "
        "is the fraction of the activations' variance that is not explained, l0 the number of "
        "active latents at a token; dead latents were active on none of the evaluation batches of "
        "training."
    )
    if view.tables["cells"]:
        page.figure(
            "dictionaries",
            "What every dictionary keeps, for every L1.",
            figures.over_sizes(_measured(view), view.sizes, view.run["coords"]["l1"]),
        )
        page.table(over_seeds(view.tables["cells"], ("l1", "d_sae"), MEASURES), "dictionaries")


def _measured(view: View) -> dict[str, figures.Measured]:
    def of(name: str, scale: np.ndarray | float = 1.0, **marks: Any) -> figures.Measured:
        each = []
        for l1 in view.run["coords"]["l1"]:
            found = view.intervals("cells", name, view.sizes, l1=l1)
            each.append(Intervals(*(scale * part for part in found)))
        known = {k: np.nan if v is None else v for k, v in marks.items()}
        return figures.Measured(each, known)

    losses = view.run["losses"]
    return {
        "fraction of variance unexplained": of("fvu"),
        "active latents at a token (l0)": of("l0"),
        "dead latents, % of d_sae": of("dead_latents", 100 / np.array(view.sizes)),
        "loss with the reconstruction,\nnats per token": of(
            "loss", **{"as it is": losses["clean"], "mean ablation": losses["mean"]}
        ),
        "loss recovered, against zeros": of("recovered_zero", perfect=1.0),
        "loss recovered, against the mean": of("recovered_mean", perfect=1.0),
    }


def _ending(page: Page, view: View) -> None:
    page.heading("All results")
    page.paragraph(
        "Every dictionary by itself. Rows of every seed, also of tables whose means are shown "
        f"above, are in the folder tables: {', '.join(f'all_{name}.csv' for name in KEPT)}."
    )
    for name in KEPT:
        if view.tables[name]:
            page.keep_table(Table(view.tables[name]), f"all_{name}")
    page.table(Table(view.tables["cells"]))
    page.heading("Settings")
    parts = {name: view.run[name] for name in ("study", "sweep", "store", "corpus")}
    page.table(language_page.settings(view.run, parts))
    sweep.repeat(page, view.run)
