"""What pages of studies of a language model share: stages, claims, the model, settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saejax.core.files import read_rows
from saejax.core.table import Table, show
from saejax.experiments.language import figures
from saejax.report.page import Page
from saejax.report.rows import numbers


def number(value: Any, spec: str = ",") -> str:
    """A number in words; what is not known is said so."""
    return "an unknown number of" if value is None else format(value, spec)


def nats(value: Any) -> str:
    """A loss in words."""
    return "not measured" if value is None else f"{value:.3f} nats per token"


def final_loss(run: Mapping[str, Any]) -> Any:
    """Last validation loss of a model's training, in nats; None where it has none."""
    known = [
        row["validation_loss"] for row in run["lm"]["rows"] if row["validation_loss"] is not None
    ]
    return known[-1] if known else None


def stages(page: Page, run: Mapping[str, Any]) -> None:
    """What each stage made or took from an earlier run."""
    rows = Table(
        {
            "stage": row["stage"],
            "from": "an earlier run" if row["reused"] else "this run",
            "seconds": row["seconds"],
        }
        for row in run["stages"]
    )
    if rows:
        page.heading("What was made, and what was there already")
        page.table(rows, "stages")


def claims(page: Page, path: Path, l1: float | None = None) -> None:
    """The table of claims; with an l1 the rows of others come behind those of this one."""
    file = path / "claims.jsonl"
    rows = Table(read_rows(file)) if file.exists() else Table()
    if not rows:
        return
    page.heading("What the text claims, and what this run says")
    page.paragraph(
        "Mean and standard deviation over seeds. A claim holds when the 95 % confidence interval "
        "of the mean lies on the claimed side, does not hold when it lies on the other, and is "
        "unclear otherwise; one seed alone has no interval, and its sign decides."
    )
    page.keep_table(rows, "claims")
    shown = Table(row for row in rows if l1 is None or row.get("l1") in (None, l1))
    page.table(shown, words=True, scroll=False)
    others = Table(row for row in rows if row not in shown)
    if others:
        page.paragraph("The same for every other L1:")
        page.table(others, words=True)


def language_model(page: Page, run: Mapping[str, Any]) -> None:
    """The model's loss over training and its sizes; of one that others trained, where it is
    from."""
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
            figures.loss_curve(steps, train, validation, np.nan if entropy is None else entropy),
        )
        page.keep_table(Table(lm["rows"]), "loss")
    sizes = {
        **lm["config"],
        "weights": lm["parameters"],
        **{f"training {k}": v for k, v in lm.get("settings", {}).items()},
        **{k: v for k, v in lm.get("pretrained", {}).items() if k in ("name", "revision", "dtype")},
        "tokens of training text": run["corpus"]["tokens"]["train"],
        "tokens of validation text": run["corpus"]["tokens"]["validation"],
        "unigram entropy, nats per token": entropy,
        "loss on the validation text, nats per token": final_loss(run),
    }
    page.table(Table({"what": k, "value": v} for k, v in sizes.items()), "language_model")


def settings(run: Mapping[str, Any], parts: Mapping[str, Any]) -> Table:
    """Names and values of all settings of a run.

    Args:
        run: what run.json holds.
        parts: name -> nested settings, shown between the axes and the machine.
    """
    shown = {name: ", ".join(map(show, values)) for name, values in run["coords"].items()}
    for name, part in parts.items():
        shown |= _flat(name, part)
    shown |= {name: show(run[name]) for name in ("hook", "d_in", "device")}
    shown["versions"] = ", ".join(f"{k} {v}" for k, v in run["versions"].items())
    return Table({"setting": name, "value": value} for name, value in shown.items())


def _flat(name: str, value: Any) -> dict[str, str]:
    """Names and values of nested settings."""
    if not isinstance(value, Mapping):
        return {name: show(value)}
    nested = (_flat(f"{name} {key}", inner) for key, inner in value.items())
    return {name: text for part in nested for name, text in part.items()}
