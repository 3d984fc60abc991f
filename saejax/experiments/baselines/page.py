"""The page of the baselines study: fits, claims, representedness and maps of the data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saejax.core.files import read_rows
from saejax.core.stats import mean_and_spread
from saejax.core.table import Table, show
from saejax.data.synthetic.recipe import Synthetic, firing_probabilities
from saejax.experiments.baselines import figures, published
from saejax.experiments.baselines.claims import METHODS
from saejax.report import sweep
from saejax.report.page import Page
from saejax.report.rows import numbers
from saejax.results.workdir import read_run

Rows = Sequence[Mapping[str, Any]]


def build(path: Path) -> Page:
    """The page; arguments and errors as in `saejax.report.write`."""
    run, rows = read_run(path), read_rows(path / "fits.jsonl")
    if not rows:
        raise ValueError(f"{path / 'fits.jsonl'}: the run ended before its first fit")
    page = Page(path, "saejax: baselines on synthetic data with known features")
    if not run["finished"]:
        page.paragraph(
            f"This run did not finish: it made {len(rows)} fits, and maps and claims are absent.",
            warning=True,
        )
    any_data = next(iter(run["data"].values()))
    page.paragraph(
        f"{len(rows)} fits on {run['device']}: each method looks for {any_data['n_features']} "
        f"directions in samples of {any_data['d_in']} dimensions, made of {any_data['n_features']} "
        f"true features of which {any_data['avg_active']:g} are active in a sample on average. "
        "MMCS, the mean over true features of the best cosine with a found direction, is 1 where "
        "all were found."
    )
    if (path / "claims.jsonl").exists():
        sweep.claimed(page, Table(read_rows(path / "claims.jsonl")))
        if run["grid_workdir"] is None:
            page.paragraph(
                "Claims about SAEs need a run of the grid study on the same data: --grid_workdir."
            )
    page.heading("How much each method finds")
    page.paragraph(
        "Each method at its largest number of samples. With either sign, a direction may be turned "
        "around: the sign of a principal axis or an independent component is arbitrary, while the "
        "features and the centres of clusters have one."
    )
    page.table(_beside_published(rows), "methods")
    for dataset, spec in run["data"].items():
        panels = _boxes([row for row in rows if row["dataset"] == dataset])
        if panels:
            known = published.BASELINES.get(dataset, {}) if _is_published(spec) else {}
            theirs = {METHODS[method]: value for method, value in known.items()}
            page.figure(
                f"mmcs_{dataset}",
                f"MMCS against the number of samples, {dataset} data. Boxes: quartiles and median "
                "over seeds, dots: seeds.",
                figures.boxes(panels, theirs, f"Baselines, {dataset} data"),
            )
    page.heading("Which fits converged")
    page.paragraph("Messages are the libraries' own, each once. Fits that failed have no MMCS.")
    page.table(_convergence(rows), "convergence", words=True)
    if (path / "representedness.npz").exists():
        _representedness(page, run)
    if (path / "tsne.npz").exists():
        _maps(page, run)
    page.heading("All fits")
    page.table(Table(dict(row) for row in rows), "fits")
    page.heading("Settings")
    page.table(Table({"setting": k, "value": v} for k, v in _settings(run)))
    sweep.repeat(page, run)
    return page


def _is_published(spec: Mapping[str, Any]) -> bool:
    """Whether the data have the published sizes, so that absolute figures can be compared."""
    theirs = Synthetic(spec["kind"])
    names = ("d_in", "n_features", "feature_decay")
    return all(spec[name] == getattr(theirs, name) for name in names)


def _groups(rows: Rows, *names: str) -> dict[tuple, list[Mapping[str, Any]]]:
    out: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        out.setdefault(tuple(row[name] for name in names), []).append(row)
    return out


def _beside_published(rows: Rows) -> Table:
    """Each method at its largest number of samples, beside the published figure."""
    out = []
    for (dataset, method), own in _groups(rows, "dataset", "method").items():
        n = max(row["n_samples"] for row in own)
        largest = [row for row in own if row["n_samples"] == n]
        mean, spread = mean_and_spread(numbers(largest, "mmcs"))
        either, _ = mean_and_spread(numbers(largest, "mmcs_either_sign"))
        theirs = published.BASELINES.get(dataset, {}).get(method)
        out.append(
            {
                "method": METHODS[method],
                "data": dataset,
                "samples": n,
                "mmcs": mean,
                "sd": spread,
                "seeds": len(largest),
                "mmcs_either_sign": either,
                "published_at_d_in_256": theirs,
            }
        )
    return Table(out)


def _boxes(rows: Rows) -> dict[str, list[figures.Box]]:
    return {
        METHODS[method]: [
            figures.Box(n, numbers(each, "mmcs"), sum(not row["converged"] for row in each))
            for (n,), each in _groups(own, "n_samples").items()
        ]
        for (method,), own in _groups(rows, "method").items()
    }


def _convergence(rows: Rows) -> Table:
    out = []
    for (dataset, method, n), own in _groups(rows, "dataset", "method", "n_samples").items():
        counts = [row["iterations"] for row in own if row["iterations"] is not None]
        out.append(
            {
                "method": METHODS[method],
                "data": dataset,
                "samples": n,
                "converged": f"{sum(row['converged'] for row in own)} of {len(own)}",
                "failed": int(np.isnan(numbers(own, "mmcs")).sum()),
                "iterations": f"{min(counts)} to {max(counts)}" if counts else "",
                "seconds": float(np.mean([row["seconds"] for row in own])),
                "messages": " | ".join(dict.fromkeys(r["message"] for r in own if r["message"])),
            }
        )
    return Table(out)


def _representedness(page: Page, run: Mapping[str, Any]) -> None:
    page.heading("Which features are represented")
    with np.load(page.path / "representedness.npz", allow_pickle=False) as file:
        arrays = dict(file)
    for dataset, spec in run["data"].items():
        p = np.asarray(firing_probabilities(Synthetic(**spec)))
        panels = {}
        for key, cosine in arrays.items():
            of, _, name = key.partition("/")
            if of == dataset:
                panels[METHODS.get(name, name)] = p, cosine
        title = f"Representedness of the true features, {dataset} data"
        page.figure(
            f"representedness_{dataset}",
            f"Best cosine of every true feature against its firing probability, {dataset} data; "
            f"baselines at {max(run['plan']['sizes']):,} samples.",
            figures.representedness(panels, title),
        )


def _maps(page: Page, run: Mapping[str, Any]) -> None:
    panels: dict[str, dict[str, Any]] = {}
    with np.load(page.path / "tsne.npz", allow_pickle=False) as arrays:
        for key in arrays.files:
            dataset, decay, part = key.split("/")
            if part == "places":
                places = arrays[key], arrays[f"{dataset}/{decay}/strongest"]
                panels.setdefault(f"{dataset} data", {})[f"decay {decay}"] = places
    if not panels:
        return
    n_features = next(iter(run["data"].values()))["n_features"]
    page.heading("What the data look like")
    page.figure(
        "tsne",
        "t-SNE of samples: neighbours in the picture are neighbours in the data. The decay is the "
        "ratio of the firing probabilities of successive features; 1 makes all equally likely.",
        figures.maps(panels, n_features, "Samples in two dimensions"),
    )


def _settings(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    out = [(name, ", ".join(show(v) for v in values)) for name, values in run["plan"].items()]
    for name, spec in run["data"].items():
        out.append((f"data: {name}", ", ".join(f"{k} {v}" for k, v in spec.items())))
    out += [(name, str(run[name])) for name in ("batch_size", "grid_workdir", "device")]
    out.append(("versions", ", ".join(f"{k} {v}" for k, v in run["versions"].items())))
    return out
