"""The page of the toy study: its data in pictures, four heat maps, PCA, and a film of every SAE."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from saejax.analysis import baseline_fits
from saejax.core.files import read_rows
from saejax.core.keys import stream
from saejax.core.linalg import cosines
from saejax.core.stats import mean_and_spread
from saejax.core.table import Table
from saejax.data.synthetic.recipe import Synthetic, gaussian_features
from saejax.experiments.common import study
from saejax.experiments.toy3d import figures, gif, published
from saejax.report import sweep
from saejax.report.page import Page
from saejax.results.figures import heatmaps, variants
from saejax.results.plots import sweep as sweep_plots
from saejax.results.result import Result, Snapshots

SAMPLES = 12
# Samples behind the measured frequencies of the features.
FREQUENCY_SAMPLES = 16_384


def build(path: Path) -> Page:
    """The page; arguments and errors as in `saejax.report.write`."""
    page, result = sweep.opening(path, "saejax: {n} sparse autoencoders in three dimensions")
    _data(page, result)
    page.heading("What the SAEs learned")
    for variant in variants(result):
        for picture in heatmaps(result, variant):
            page.figure(*picture)
    if result.run["finished"]:
        _live_latents(page, result)
    if (path / "pca.jsonl").exists():
        _pca(page, result, read_rows(path / "pca.jsonl"))
    if result.run["finished"]:
        page.heading("How the dictionaries moved")
        seed = result.coords["seed"][0]
        page.paragraph(
            "Every film is one SAE from its random start on. Green arrows are the true features, "
            "blue dots latents that are alive (they fire on fresh samples), red crosses latents "
            "that are dead. Live latents of a good SAE end on the tips of the arrows. "
            + (f"All films are of seed {seed}." if len(result.coords["seed"]) > 1 else "")
        )
        page.gallery(list(films(result)))
    sweep.ending(page, result)
    return page


def _spec(result: Result) -> Synthetic:
    (description,) = result.run["data"].values()
    return Synthetic(**{k: v for k, v in description.items() if k != "type"})


def _data(page: Page, result: Result) -> None:
    spec, seed = _spec(result), int(result.coords["seed"][0])
    batch = result.run["settings"]["batch_size"]
    t = baseline_fits.truth_of(spec, seed)
    F = np.asarray(t.F)
    page.heading("The data")
    page.figure(
        "features",
        "Left: vectors drawn from a Gaussian. Right: the same vectors scaled to length 1, on the "
        f"unit sphere. These are the true features of seed {seed}.",
        figures.features(np.asarray(gaussian_features(spec, stream(seed, "truth"))), F),
    )
    codes = baseline_fits.codes_of(spec, seed, FREQUENCY_SAMPLES, batch)
    # One sample from each of so many batches, since a batch shares a draw of what is likely in it.
    few = codes[: SAMPLES * batch : batch]
    page.figure(
        "samples",
        "Each sample is a sum of the features that are active in it, with random strengths. The "
        "numbers are those of the features.",
        figures.samples(F, few),
    )
    seeds = [
        (baseline_fits.codes_of(spec, s, FREQUENCY_SAMPLES, batch) > 0).mean(0)
        for s in result.coords["seed"]
    ]
    page.figure(
        "frequencies",
        f"Share of {FREQUENCY_SAMPLES:,} samples in which each feature is active.",
        figures.frequencies(np.array(seeds), np.asarray(t.p)),
    )


def _pca(page: Page, result: Result, rows: list[dict[str, Any]]) -> None:
    pca = np.array([row["mmcs"] for row in rows])
    spec = _spec(result)
    page.heading("Is that a lot? PCA and chance for comparison")
    theirs = published.TOY3D_PCA
    lines = [_line(f"PCA ({min(3, spec.n_features)} directions)", pca)]
    for ratio in result.coords["ratio"] if result.run["finished"] else ():
        name = f"random dictionary of ratio {ratio:g}: the SAEs before training"
        lines.append(_line(name, _before(result, ratio)))
    best = study.best(result, "mmcs_true_to_dict")
    if best:
        mmcs = result.values("mmcs_true_to_dict")
        of_seeds = mmcs[np.ix_(*result.select(l1=best["l1"], ratio=best["ratio"]))].ravel()
        name = f"best SAEs (L1 {best['l1']:.2g}, ratio {best['ratio']:g})"
        lines.append(_line(name, of_seeds))
    page.table(Table(lines), "recovery", words=True)
    below = float(np.mean(pca <= theirs))
    page.paragraph(
        f"The text gives {theirs} for PCA, from one draw of the features; {100 * below:.0f} % of "
        f"our {len(pca)} draws lie there or below. MMCS counts the sign of a direction, and the "
        "sign of a principal axis is arbitrary. In three dimensions a dictionary of many random "
        "directions lies close to every feature already, so a high MMCS alone says little here; "
        "the films show more."
    )
    page.figure(
        "pca",
        "MMCS of PCA over draws of the features.",
        figures.distribution(pca, "MMCS of PCA", theirs),
    )


def _live_latents(page: Page, result: Result) -> None:
    assert result.features is not None
    coords = result.coords
    axes = {name: coords[name] for name in ("seed", "ratio", "l1")}
    first_and_last = np.full((2, *map(len, axes.values())), np.nan)
    for cell in np.ndindex(first_and_last.shape[1:]):
        where = {name: axes[name][i] for name, i in zip(axes, cell, strict=True)}
        taken, F = result.snapshots(**where), jnp.asarray(result.features[0, cell[0]])
        for end in (0, -1):
            # Of all latents first: one shape for all cells of a ratio compiles once.
            cosine = cosines(jnp.asarray(taken.W_dec[end]), F)
            live = np.asarray(cosine.max(-1))[taken.alive[end]]
            if len(live):
                first_and_last[end, *cell] = float(live.mean())
    before, _ = mean_and_spread(first_and_last[0].mean(-1))
    pairs = zip(before, coords["ratio"], strict=True)
    start = ", ".join(f"{value:.2f} at ratio {ratio:g}" for value, ratio in pairs)
    panels = {next(iter(result.run["data"])): mean_and_spread(first_and_last[1])}
    page.figure(
        "heatmap_live_to_true",
        "Mean over the live latents of the best cosine with a true feature: 1 = every live latent "
        f"is a true feature. Before training, by chance, it is {start}.",
        sweep_plots.heatmaps(
            panels, coords["ratio"], coords["l1"], "live_to_true", n_seeds=len(coords["seed"])
        ),
    )


def _line(name: str, values: np.ndarray) -> dict[str, Any]:
    mean, spread = mean_and_spread(values)
    return {"dictionary": name, "MMCS": mean, "sd": spread, "draws": len(values)}


def _before(result: Result, ratio: float) -> np.ndarray:
    """MMCS of the initial dictionaries of one ratio, one a seed: they are the same for every L1."""
    assert result.features is not None
    one = {"ratio": ratio, "l1": result.coords["l1"][0]}
    pairs = zip(result.features[0], result.coords["seed"], strict=True)
    return np.array([_scores(F, result.snapshots(seed=seed, **one))[0] for F, seed in pairs])


def _scores(F: np.ndarray, taken: Snapshots) -> np.ndarray:
    """MMCS of the true features with the dictionary at each snapshot."""
    n, d_sae, d_in = taken.W_dec.shape
    rows = taken.W_dec.reshape(-1, d_in)
    flat = np.asarray(cosines(jnp.asarray(F), jnp.asarray(rows)))
    return flat.reshape(len(F), n, d_sae).max(-1).mean(0)


def films(result: Result) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """Name and caption of the film of every SAE of the first seed, and what draws it."""
    for ratio in result.coords["ratio"]:
        for l1 in result.coords["l1"]:
            title = f"ratio {ratio:g}, L1 {l1:.2g}"
            yield f"film_ratio-{ratio:g}_l1-{l1:g}", title, partial(_film, result, ratio, l1, title)


def _film(result: Result, ratio: float, l1: float, title: str) -> bytes:
    assert result.features is not None
    F = result.features[0, 0]
    taken = result.snapshots(ratio=ratio, l1=l1, seed=result.coords["seed"][0])
    i = figures.film_steps(taken.steps)
    scores = _scores(F, taken)[i]
    return gif.encode(
        figures.film(F, taken.W_dec[i], taken.alive[i], scores, taken.steps[i], title)
    )
