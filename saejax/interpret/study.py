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

COORDS = ("l1", "ratio", "resample", "seed")
# The tables of the study, and what a row of each is of.
KEYS = {
    "cells": COORDS,
    "rates": (*COORDS, "labeller"),
    "agreement": COORDS,
    "labels": (*COORDS, "labeller", "latent"),
}
NOTHING_LABELLED: dict[str, Any] = {
    "chosen": Chosen(np.zeros(0, np.int64), np.zeros(0, np.int64)),
    "evidence": [],
    "correlation": np.zeros((0, 0), np.float32),
}


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
        arrays: of every SAE `labelled/NAME`, the labelled latents, and `correlation/NAME`, the
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
    """Whether an SAE was frozen as not finite, its weights being those of an earlier step."""
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
        ChatError, BudgetError: from a chat labeller; its answers so far are kept.
    """
    found = Found({name: [] for name in KEYS}, {})
    cells = list(cells_of(study.result))
    shown = [cell for cell in cells if cell["seed"] in viewer_seeds]
    with tqdm(total=len(cells), desc="analysis", disable=not progress) as bar:

        def one(cell: dict[str, Any]) -> tuple[Params, Measured, list[Label]]:
            bar.set_postfix_str(name_of(cell))
            params = study.result.dictionary(**cell)
            measured = measure(params, study.store, study.text, study.settings)
            if is_frozen(study.result, cell):
                measured = measured._replace(**NOTHING_LABELLED)
            labels = _rows(study, cell, params, measured, found)
            bar.update()
            return params, measured, labels

        def boards() -> Iterator[Dashboard]:
            # Read once, since every page names the closest latents of every other.
            decoders = {name_of(c): np.asarray(study.result.dictionary(**c).W_dec) for c in shown}
            context = study.model, study.text, study.settings
            for cell in shown:
                name = name_of(cell)
                coords = {"expansion": cell["ratio"]}
                coords |= {axis: cell[axis] for axis in ("l1", "resample", "seed")}
                others = ((other, W_dec) for other, W_dec in decoders.items() if other != name)
                yield dashboard(name, coords, *one(cell), others, *context)

        for cell in cells:
            if cell not in shown:
                one(cell)
        if shown:
            shutil.rmtree(viewer, ignore_errors=True)
            write_viewer(
                viewer,
                boards(),
                title=f"Latents of {len(shown)} SAEs at {study.store.config.hook}",
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
    key = {**cell, "d_sae": params.b_enc.shape[0]}
    picked, name = measured.chosen, name_of(cell)
    found.rows["cells"].append({**key, **_numbers(study, cell, params, measured)})
    found.arrays[f"correlation/{name}"] = measured.correlation
    found.arrays[f"labelled/{name}"] = picked.latents
    columns = measured.statistics._asdict()
    columns = {name: columns[name] for name in ("selectivity", "firings", "highest")}
    given = [one.label(measured.evidence) if measured.evidence else [] for one in study.labellers]
    for labeller, labels in zip(study.labellers, given, strict=True):
        by, interval = {**key, "labeller": labeller.name}, rate(labels)
        numbers = {"judged": len(labels), "rate": interval.value}
        numbers |= {"rate_from": interval.low, "rate_to": interval.high}
        found.rows["rates"].append(by | numbers)
        for place, (latent, label) in enumerate(zip(picked.latents, labels, strict=True)):
            found.rows["labels"].append(
                {
                    **by,
                    "latent": int(latent),
                    "half": "top" if place < len(picked.top) else "bottom",
                    **{name: column[latent].item() for name, column in columns.items()},
                    "label": POLYSEMANTIC if label.text is None else label.text,
                }
            )
    if len(given) == 2 and given[0]:
        both = agreement(*given)
        names = ", ".join(labeller.name for labeller in study.labellers)
        row = {**key, "labellers": names, "judged": both.n}
        row |= {"rate_lowest": both.span[0], "rate_highest": both.span[1]}
        for name, interval in (("same", both.same), ("kappa", both.kappa)):
            row |= {name: interval.value, f"{name}_from": interval.low, f"{name}_to": interval.high}
        found.rows["agreement"].append(row)
    return given[-1]


def _numbers(
    study: Study, cell: dict[str, Any], params: Params, measured: Measured
) -> dict[str, float]:
    """The measurements of one SAE; all NaN where it was frozen."""
    firings = measured.statistics.firings
    within, across = halves(measured.correlation, len(measured.chosen.top))
    index = np.ix_(*study.result.select(**cell))
    last = {
        name: float(study.result.values(name)[index].item())
        for name in ("dead_latents", "fvu", "l0", "mse")
    }
    numbers = {
        "dead": last.pop("dead_latents") / len(firings),
        "dead_on_sample": measured.dead,
        "fires_rarely": float((firings < study.settings.least_firings).mean()),
        "median_density": float(np.median(firings) / len(study.text.rows)),
        **last,
        **study.losses.of(params),
        "within": within,
        "across": across,
    }
    return dict.fromkeys(numbers, np.nan) if is_frozen(study.result, cell) else numbers
