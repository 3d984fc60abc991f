"""The page of the bimodality study: a language model, its dictionaries, what these have in common."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saejax.plots import quality
from saejax.plots.panels import Intervals
from saejax.report import explanation, similarity, sweep
from saejax.report.page import Page
from saejax.report.view import View, numbers, over_seeds, read
from saejax.runlog import read_rows
from saejax.table import Table, show

# Tables whose means over seeds are shown; the others have a row a seed on the page.
KEPT = ("cells", "split", "correlation", "explanation")
MEASURES = (
    "fvu", "l0", "dead_latents", "loss", "recovered_zero", "recovered_mean", "mmcs_to_largest",
    "mmcs_to_other_seeds",
)  # fmt: skip


def build(path: Path) -> Path:
    """The page; arguments and errors as in `saejax.report.write`."""
    view = read(path)
    n = len(view.run["coords"]["l1"]) * len(view.sizes) * len(view.seeds)
    page = Page(path, f"saejax: what {n} dictionaries of one language model have in common")
    _warnings(page, view)
    page.paragraph(_in_words(view))
    _stages(page, view.run)
    _claims(page, view)
    _language_model(page, view.run)
    _dictionaries(page, view)
    if view.smaller:
        similarity.sections(page, view)
        explanation.section(page, view)
    else:
        page.paragraph("There is one size only, and so nothing to compare it with.", warning=True)
    _ending(page, view)
    return page.write()


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


def _number(value: Any, spec: str = ",") -> str:
    return "an unknown number of" if value is None else format(value, spec)


def _nats(value: Any) -> str:
    return "not measured" if value is None else f"{value:.3f} nats per token"


def _final_loss(run: Mapping[str, Any]) -> Any:
    known = [row["validation_loss"] for row in run["lm"]["rows"] if row["validation_loss"] is not None]
    return known[-1] if known else None


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
        f"A language model of {config['n_layers']} layers with {_number(run['lm']['parameters'])} "
        f"weights was trained on {_number(corpus['tokens']['train'])} tokens ({source}; "
        f"{_number(corpus['text_megabytes'], '.3g')} megabytes of text in all); its loss on the "
        f"validation text is {_nats(_final_loss(run))}. {_number(stored['rows'])} activations of "
        f"{run['d_in']} numbers were read at {run['hook']}. On them dictionaries of "
        f"{', '.join(f'{d:,}' for d in view.sizes)} latents were trained for L1 {l1} and "
        f"{n_seeds} seed{'s' if n_seeds > 1 else ''} each, {_number(run['sweep']['steps'])} steps of "
        f"{_number(run['sweep']['batch_size'])} activations{took}, on {run['device']}. Figures are "
        f"those of L1 {view.l1:g}; tables have every L1. MCS is the maximum cosine similarity of a "
        f"latent with those of another dictionary; {view.cutoff:g} and more is high. Intervals are of "
        f"level {run['study']['level']:g}."
    )


def _stages(page: Page, run: Mapping[str, Any]) -> None:
    rows = Table(
        {"stage": row["stage"], "from": "an earlier run" if row["reused"] else "this run",
         "seconds": row["seconds"]}
        for row in run["stages"]
    )  # fmt: skip
    if rows:
        page.heading("What was made, and what was there already")
        page.table(rows, "stages")


def _claims(page: Page, view: View) -> None:
    file = view.path / "claims.jsonl"
    rows = Table(read_rows(file)) if file.exists() else Table()
    if not rows:
        return
    page.heading("What the text claims, and what this run says")
    page.paragraph(
        "Mean and standard deviation over seeds. A claim holds when the 95 % confidence interval of "
        "the mean lies on the claimed side, does not hold when it lies on the other, and is unclear "
        "otherwise; one seed alone has no interval, and its sign decides."
    )
    page.keep_table(rows, "claims")
    shown = Table(row for row in rows if row.get("l1") in (None, view.l1))
    page.table(shown, words=True, scroll=False)
    others = Table(row for row in rows if row not in shown)
    if others:
        page.paragraph("The same for every other L1:")
        page.table(others, words=True)


def _language_model(page: Page, run: Mapping[str, Any]) -> None:
    lm = run["lm"]
    page.heading("The language model")
    entropy = lm["unigram_entropy"]
    if lm["rows"]:
        columns = ("step", "train_loss", "validation_loss")
        steps, train, validation = (numbers(lm["rows"], name) for name in columns)
        page.figure(
            "loss",
            "Loss of the language model while it was trained. The dashed line is the unigram "
            "entropy, the loss of a model that knows how common each token is, and nothing else.",
            quality.loss_curve(steps, train, validation, np.nan if entropy is None else entropy),
        )
        page.keep_table(Table(lm["rows"]), "loss")
    sizes = {
        **lm["config"],
        "weights": lm["parameters"],
        **{f"training {k}": v for k, v in lm["settings"].items()},
        "tokens of training text": run["corpus"]["tokens"]["train"],
        "tokens of validation text": run["corpus"]["tokens"]["validation"],
        "unigram entropy, nats per token": entropy,
        "loss on the validation text, nats per token": _final_loss(run),
    }
    page.table(Table({"what": k, "value": v} for k, v in sizes.items()), "language_model")


def _dictionaries(page: Page, view: View) -> None:
    page.heading("The dictionaries")
    losses = view.run["losses"]
    page.paragraph(
        f"Loss of the language model on the evaluation text: {_nats(losses['clean'])} as it is, "
        f"{_nats(losses['mean'])} with the mean in place of the activation, {_nats(losses['zero'])} "
        "with zeros in its place. The loss recovered by a dictionary is the share of the difference "
        "that its reconstruction saves: 1 is the model as it is, 0 the ablation. Where the mean costs "
        "less than zeros, the share recovered against it is the stricter one. fvu is the fraction of "
        "the activations' variance that is not explained, l0 the number of active latents at a token; "
        "dead latents were active on none of the evaluation batches of training."
    )
    if view.tables["cells"]:
        page.figure(
            "dictionaries", "What every dictionary keeps, for every L1.",
            quality.over_sizes(_measured(view), view.sizes, view.run["coords"]["l1"]),
        )  # fmt: skip
        page.table(over_seeds(view.tables["cells"], ("l1", "d_sae"), MEASURES), "dictionaries")


def _measured(view: View) -> dict[str, quality.Measured]:
    def of(name: str, scale: np.ndarray | float = 1.0, **marks: Any) -> quality.Measured:
        each = []
        for l1 in view.run["coords"]["l1"]:
            found = view.intervals("cells", name, view.sizes, l1=l1)
            each.append(Intervals(*(scale * part for part in found)))
        known = {k: np.nan if v is None else v for k, v in marks.items()}
        return quality.Measured(each, known)

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
        "Every dictionary by itself. Rows of every seed, also of tables whose means are shown above, "
        f"are in the folder tables: {', '.join(f'all_{name}.csv' for name in KEPT)}."
    )
    for name in KEPT:
        if view.tables[name]:
            page.keep_table(Table(view.tables[name]), f"all_{name}")
    page.table(Table(view.tables["cells"]))
    page.heading("Settings")
    page.table(Table({"setting": k, "value": v} for k, v in _settings(view.run)))
    sweep.repeat(page, view.run)


def _settings(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, values in run["coords"].items():
        yield name, ", ".join(show(v) for v in values)
    for name in ("study", "sweep", "store", "corpus"):
        yield from _flat(name, run[name])
    for name in ("hook", "d_in", "device"):
        yield name, show(run[name])
    yield "versions", ", ".join(f"{k} {v}" for k, v in run["versions"].items())


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name} {key}", inner)
    else:
        yield name, show(value)
