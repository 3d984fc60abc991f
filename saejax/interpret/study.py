"""All SAEs of a sweep on the residual stream: their numbers, their labels, and the viewer."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from saejax.data.store.reader import Store
from saejax.interpret.dashboard import Dashboard
from saejax.interpret.evidence import POLYSEMANTIC, Label
from saejax.interpret.labeller import Labeller
from saejax.interpret.measurement import Measured, StoredText, dashboard, halves, measure
from saejax.interpret.monosemanticity import Chosen, agreement, rate
from saejax.interpret.settings import InterpretSettings
from saejax.interpret.viewer import write_viewer
from saejax.lm.model import GPT
from saejax.lm.recovered import Recovery
from saejax.results.result import Result
from saejax.sae.params import Params

# The tables of the study, and what a row of each is of.
KEYS = {
    "cells": ("l1", "ratio", "resample", "seed"),
    "rates": ("l1", "ratio", "resample", "seed", "labeller"),
    "agreement": ("l1", "ratio", "resample", "seed"),
    "labels": ("l1", "ratio", "resample", "seed", "labeller", "latent"),
}
NONE_CHOSEN = Chosen(np.zeros(0, np.int64), np.zeros(0, np.int64))


class Study(NamedTuple):
    """What is analysed, and with what.

    Attributes:
        result: of the sweep, over one data set and lr.
        model: whose residual stream the SAEs read.
        store: of the activations that they were trained on.
        text: the sample of it on which latents are looked at.
        labellers: one or two; the labels of the last are shown.
        losses: a text for the loss recovered.
        settings: of the analysis.
    """

    result: Result
    model: GPT
    store: Store
    text: StoredText
    labellers: Sequence[Labeller]
    losses: Recovery
    settings: InterpretSettings


class Found(NamedTuple):
    """What the analysis found.

    Attributes:
        rows: by table, see `KEYS`, in the order of `cells_of`.
        arrays: `correlation/NAME` and `labelled/NAME`, the labelled latents of every SAE and the
            correlations of their activations.
    """

    rows: dict[str, list[dict[str, Any]]]
    arrays: dict[str, np.ndarray]


def name_of(cell: Mapping[str, Any]) -> str:
    """Name of an SAE, fit for a file name; `cell` are its coordinates."""
    return f"{cell['ratio']:g}x_l1-{cell['l1']:g}_{cell['resample']}_seed-{cell['seed']}"


def cells_of(result: Result) -> Iterator[dict[str, Any]]:
    """Coordinates of every SAE of a sweep over one data set and lr, those of one seed together."""
    axes = (result.coords[name] for name in ("seed", "ratio", "l1", "resample"))
    for seed, ratio, l1, way in product(*axes):
        yield {"l1": l1, "ratio": ratio, "resample": way, "seed": seed}


def is_frozen(result: Result, cell: Mapping[str, Any]) -> bool:
    """Whether an SAE was frozen as not finite, so that its weights are those of some step
    before."""
    return bool((result.final["frozen_at"][np.ix_(*result.select(**cell))] >= 0).any())


def analyse(
    study: Study, viewer_seeds: Sequence[int], viewer: Path, progress: bool = True
) -> Found:
    """Measures and labels every SAE, one after the other, and writes the viewer.

    One that was frozen as not finite has no numbers and no labels.

    Args:
        study: what is analysed.
        viewer_seeds: seeds whose SAEs have pages in the viewer; none writes no viewer.
        viewer: folder of the viewer, replaced where an interrupted run left it.
        progress: whether to show a progress bar.

    Raises:
        ValueError: where the sample has more firings than memory should hold.
        ChatError: from a chat labeller, and so is BudgetError; its answers so far are kept.
    """
    found = Found({name: [] for name in KEYS}, {})
    cells = list(cells_of(study.result))
    shown = [cell for cell in cells if cell["seed"] in viewer_seeds]
    with tqdm(total=len(cells), desc="analysis", disable=not progress) as bar:

        def one(cell: dict[str, Any]) -> tuple[dict[str, Any], Params, Measured, list[Label]]:
            bar.set_postfix_str(name_of(cell))
            params = study.result.dictionary(**cell)
            measured = measure(params, study.store, study.text, study.settings)
            if is_frozen(study.result, cell):
                measured = measured._replace(
                    chosen=NONE_CHOSEN, evidence=[], correlation=np.zeros((0, 0), np.float32)
                )
            labels = _rows(study, cell, params, measured, found)
            bar.update()
            return cell, params, measured, labels

        for cell in cells:
            if cell not in shown:
                one(cell)
        if shown:
            hook = study.store.config.hook
            # Once, since every page names the closest latents of every other.
            decoders = {name_of(c): np.asarray(study.result.dictionary(**c).W_dec) for c in shown}
            shutil.rmtree(viewer, ignore_errors=True)
            write_viewer(
                viewer,
                (_board(study, decoders, *one(cell)) for cell in shown),
                title=f"Latents of {len(shown)} SAEs at {hook}",
                dead_threshold=study.settings.dead_threshold,
                note=f"Measured on {len(study.text.rows):,} tokens of the text that the SAEs were "
                "trained on. Dead here is on this text; the report counts on held-out activations.",
                run=study.store.checksum,
            )
    # SAEs with pages came last.
    place = {name_of(cell): i for i, cell in enumerate(cells)}
    for rows in found.rows.values():
        rows.sort(key=lambda row: place[name_of(row)])
    return found


def _rows(
    study: Study, cell: dict[str, Any], params: Params, measured: Measured, found: Found
) -> list[Label]:
    """Adds the rows of one SAE; returns the labels that are shown."""
    at = {**cell, "d_sae": params.b_enc.shape[0]}
    statistics, picked = measured.statistics, measured.chosen
    within, across = halves(measured.correlation, len(picked.top))
    where = np.ix_(*study.result.select(**cell))
    last = {
        name: float(study.result.values(name)[where].item())
        for name in ("dead_latents", "fvu", "l0", "mse")
    }
    numbers = {
        "dead": last.pop("dead_latents") / at["d_sae"],
        "dead_on_sample": measured.dead,
        "fires_rarely": float((statistics.firings < study.settings.least_firings).mean()),
        "median_density": float(np.median(statistics.firings) / len(study.text.rows)),
        **last,
        **study.losses.of(params),
        "within": within,
        "across": across,
    }
    if is_frozen(study.result, cell):
        numbers = dict.fromkeys(numbers, np.nan)
    found.rows["cells"].append({**at, **numbers})
    found.arrays[f"correlation/{name_of(cell)}"] = measured.correlation
    found.arrays[f"labelled/{name_of(cell)}"] = picked.latents
    given = [one.label(measured.evidence) if measured.evidence else [] for one in study.labellers]
    for labeller, labels in zip(study.labellers, given, strict=True):
        share = rate(labels)
        found.rows["rates"].append(
            {
                **at,
                "labeller": labeller.name,
                "judged": len(labels),
                "rate": share.value,
                "rate_from": share.low,
                "rate_to": share.high,
            }
        )
        for place, (latent, label) in enumerate(zip(picked.latents, labels, strict=True)):
            found.rows["labels"].append(
                {
                    **at,
                    "labeller": labeller.name,
                    "latent": int(latent),
                    "half": "top" if place < len(picked.top) else "bottom",
                    "selectivity": float(statistics.selectivity[latent]),
                    "firings": int(statistics.firings[latent]),
                    "highest": float(statistics.highest[latent]),
                    "label": POLYSEMANTIC if label.text is None else label.text,
                }
            )
    if len(given) == 2 and given[0]:
        both = agreement(given[0], given[1])
        names = ", ".join(labeller.name for labeller in study.labellers)
        row = {**at, "labellers": names, "judged": both.n}
        row |= {"rate_lowest": both.span[0], "rate_highest": both.span[1]}
        for name, interval in (("same", both.same), ("kappa", both.kappa)):
            row |= {name: interval.value, f"{name}_from": interval.low, f"{name}_to": interval.high}
        found.rows["agreement"].append(row)
    return given[-1]


def _board(
    study: Study,
    decoders: Mapping[str, np.ndarray],
    cell: dict[str, Any],
    params: Params,
    measured: Measured,
    labels: Sequence[Label],
) -> Dashboard:
    others = ((name, W_dec) for name, W_dec in decoders.items() if name != name_of(cell))
    coords = {"expansion": cell["ratio"], **{k: cell[k] for k in ("l1", "resample", "seed")}}
    return dashboard(
        name_of(cell),
        coords,
        params,
        measured,
        labels,
        others,
        study.model,
        study.text,
        study.settings,
    )
