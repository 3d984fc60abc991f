"""Figures and page of a finished or interrupted run: `python -m saejax.report WORKDIR`.

Reads the workdir alone, so it can be made again at any time without training.
"""

import base64
import html
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from saejax import plots, published
from saejax.result import Result
from saejax.runlog import load, write_bytes, write_text
from saejax.sweep import AXES
from saejax.table import Table, show

PUBLISHED_MAPS = ("mmcs_true_to_dict", "mse", "mmcs_to_next_larger", "dead_latents")
TRACKED = {
    "dead_latents": ("Dead latents", "dead latents, % of d_sae", False),
    "learned": ("Features learned so far", "features, cumulative", True),
    "unlearned": ("Features unlearned so far", "features, cumulative", True),
    "kept": ("Features still learned with the same latent", "features", False),
}

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #ddd}
img{max-width:100%;height:auto}figure{margin:1rem 0}figcaption{color:#555;font-size:.9rem}
table{border-collapse:collapse;font-size:.8rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .55rem;text-align:right;border-bottom:1px solid #eee;white-space:nowrap}
th{background:#f6f6f6;position:sticky;top:0}.scroll{overflow:auto;max-height:32rem}
.warn{background:#fff3cd;padding:.6rem 1rem;border-radius:4px}code{background:#f4f4f4;padding:0 .2em}
"""


def comparisons(result: Result) -> Table:
    """Spearman's rank correlation of each heat map with its published one, where there is one.

    With several seeds the row also has the lowest and the highest of the single seeds.
    """
    rows = []
    for dataset in result.coords["dataset"]:
        for metric in PUBLISHED_MAPS:
            pair = published.beside(result, dataset, metric)
            if pair is None:
                continue
            row: dict[str, Any] = {"dataset": dataset, "metric": metric}
            row["spearman"] = published.rank_correlation(*pair)
            row["cells"] = int(np.isfinite(pair[0]).sum())
            seeds = [
                published.rank_correlation(*own)
                for s in result.coords["seed"]
                if (own := published.beside(result, dataset, metric, seed=s)) is not None
            ]
            if len(result.coords["seed"]) > 1:
                row["lowest_seed"] = min(seeds, default=None)
                row["highest_seed"] = max(seeds, default=None)
            rows.append(row)
    return Table(rows)


class Variant(NamedTuple):
    """One (lr, resample) of a sweep: how files, headings and `Result.select` call it."""

    suffix: str
    words: str
    where: dict[str, Any]


def variants(result: Result) -> list[Variant]:
    """Every combination of the swept ones of lr and resample; one unnamed entry where none is."""
    out = [Variant("", "", {})]
    for name in ("lr", "resample"):
        values = result.coords[name]
        if len(values) > 1:
            out = [
                Variant(f"{v.suffix}_{name}-{x}", f"{v.words}, {name} = {x}", {**v.where, name: x})
                for v in out
                for x in values
            ]
    return out


def figures(result: Result) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and picture of everything the report shows, in its order."""
    each = variants(result)
    for variant in each:
        yield from _heatmaps(result, variant)
    yield from _beside_published(result)
    for variant in each:
        yield _frontier(result, variant)
    for variant in each:
        yield from _training(result, variant)


def _heatmaps(result: Result, variant: Variant) -> Iterator[tuple[str, str, Figure]]:
    for metric in PUBLISHED_MAPS:
        if metric in result.final and np.isfinite(result.final[metric]).any():
            caption = f"{plots.title_of(metric)} over L1 and dictionary ratio{variant.words}."
            picture = result.plot_heatmap(metric, **variant.where)
            yield f"heatmap_{metric}{variant.suffix}", caption, picture


def _beside_published(result: Result) -> Iterator[tuple[str, str, Figure]]:
    for row in comparisons(result):
        dataset, metric = row["dataset"], row["metric"]
        pair = published.beside(result, dataset, metric)
        assert pair is not None
        ratios, l1 = published.shared(result)
        picture = plots.beside_published(*pair, ratios, l1, metric, row["spearman"])
        note = published.grid()["note"]
        caption = f"{plots.title_of(metric)}, {dataset} data, beside the published map ({note})."
        yield f"published_{metric}_{dataset}", caption, picture


def _frontier(result: Result, variant: Variant) -> tuple[str, str, Figure]:
    panels = {}
    for name in result.coords["dataset"]:
        l0, fvu = (result.grid(m, dataset=name, **variant.where)[0] for m in ("l0", "fvu"))
        panels[name] = l0, fvu
    caption = f"Every SAE as a point; a line joins the L1 values of one ratio{variant.words}."
    picture = plots.frontier(panels, result.coords["ratio"], result.coords["l1"])
    return f"frontier{variant.suffix}", caption, picture


def _training(result: Result, variant: Variant) -> Iterator[tuple[str, str, Figure]]:
    for dataset in result.coords["dataset"]:
        chosen = np.ix_(*result.select(dataset=dataset, **variant.where))
        for metric, (title, ylabel, total) in TRACKED.items():
            if metric not in result.history:
                continue
            y = np.stack([a[chosen][0, :, :, :, 0, 0] for a in result.history[metric]], axis=1)
            if metric == "dead_latents":
                y = 100 * y / np.array(result.d_sae)[:, None]
            y = np.cumsum(y, axis=1) if total else y
            mean, spread = plots.mean_and_spread(y)
            picture = plots.curves(
                result.steps, mean, spread, result.coords["ratio"], result.coords["l1"],
                f"{title}, {dataset} data{variant.words}", ylabel, n_seeds=len(y),
            )  # fmt: skip
            caption = f"{title} during training, {dataset} data{variant.words}."
            yield f"training_{metric}_{dataset}{variant.suffix}", caption, picture


def write(workdir: str | Path) -> Path:
    """Draws every figure of a workdir and writes its report.html; returns the page's path.

    Raises:
        FileNotFoundError: when the folder holds no run.
        ValueError: when the run ended before its first evaluation.
    """
    path = Path(workdir)
    result = load(path)
    (path / "figures").mkdir(exist_ok=True)
    parts = []
    for name, caption, figure in figures(result):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        write_bytes(path / "figures" / f"{name}.png", buffer.getvalue())
        encoded = base64.b64encode(buffer.getvalue()).decode()
        text = html.escape(caption)
        parts.append(
            f'<figure><img alt="{text}" src="data:image/png;base64,{encoded}">'
            f"<figcaption>{text}</figcaption></figure>"
        )
    page = path / "report.html"
    write_text(page, _page(path, result, parts))
    return page


def _page(path: Path, result: Result, pictures: Sequence[str]) -> str:
    run = result.run
    n_cells = result.final["frozen_at"].size
    several = len(result.coords["seed"]) > 1
    out = [f"<h1>saejax: {n_cells} sparse autoencoders, one sweep</h1>"]
    planned, done = run["settings"]["steps"], int(result.steps[-1])
    if not run.get("finished"):
        out.append(
            f'<p class="warn">This run did not finish: it was measured up to step {done:,} of '
            f"{planned:,}. Numbers are those of its last evaluation.</p>"
        )
    frozen = [row for row in result.table() if row["frozen_at"] is not None]
    for row in frozen:
        at = ", ".join(f"{name}={show(row[name])}" for name in AXES)
        out.append(
            f'<p class="warn">The SAE at {html.escape(at)} was not finite at step '
            f"{row['frozen_at']:,} and was frozen; it is grey in the heat maps.</p>"
        )
    out.append(f"<p>{html.escape(_setting_in_words(run, done))}</p>")
    out.append(_summary(result))
    compared = comparisons(result)
    if compared:
        out.append("<h2>Agreement with the published heat maps</h2>")
        out.append(
            "<p>Spearman's rank correlation over the cells that both have: 1 means that the SAEs are "
            "ordered alike, whatever the scale.</p>" + compared.to_html()
        )
    out.append("<h2>Pictures</h2>")
    out += pictures
    out.append("<h2>All results</h2>")
    if several:
        out.append("<p>Mean and standard deviation over seeds.</p>")
        out.append(f'<div class="scroll">{result.table(over_seeds=True).to_html()}</div>')
        out.append("<p>Single seeds:</p>")
    out.append(f'<div class="scroll">{result.table().to_html()}</div>')
    out.append("<h2>Settings</h2>")
    out.append(Table([{"setting": k, "value": v} for k, v in _settings(run)]).to_html())
    if (path / "config.flags").exists():
        flags = html.escape((path / "config.flags").read_text(encoding="utf-8"))
        out.append(f"<h2>To repeat this run</h2><pre>{flags}</pre>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>saejax report</title>'
        f"<style>{STYLE}</style></head><body>{''.join(out)}</body></html>\n"
    )


def _setting_in_words(run: dict[str, Any], steps: int) -> str:
    features = f", {run['n_features']} true features" if run["n_features"] else ""
    seconds = f" in {run['train_seconds']:.0f} s" if "train_seconds" in run else ""
    return (
        "Every square of a heat map and every line of a curve is one kind of SAE, trained for "
        f"{steps:,} steps of {run['settings']['batch_size']:,} fresh samples{seconds} on "
        f"{run['device']}. Data: {', '.join(run['data'])}; {run['d_in']} dimensions{features}. "
        "The ratio is the number of latents over that of "
        f"{'true features' if features else 'dimensions'}; grey squares have no "
        "value."
    )


def _summary(result: Result) -> str:
    if "mmcs_true_to_dict" not in result.final:
        return "<p>The data set's true features are unknown: recovery was not measured.</p>"
    rows = []
    for name in result.coords["dataset"]:
        try:
            best = result.best("mmcs_true_to_dict", dataset=name)
        except ValueError:  # every cell of this data set was frozen
            continue
        spread = best.get("mmcs_true_to_dict_sd")
        spread = f" ± {spread:.3f}" if spread is not None and np.isfinite(spread) else ""
        rows.append(
            f"<li>{html.escape(str(name))}: the true features are recovered best with L1 "
            f"{best['l1']:.2g} and ratio {best['ratio']:g} (d_sae {best['d_sae']}), MMCS "
            f"{best['mmcs_true_to_dict']:.3f}{spread}, L0 {best['l0']:.2f}, fvu {best['fvu']:.3f}.</li>"
        )
    return f"<ul>{''.join(rows)}</ul>"


def _settings(run: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, values in run["coords"].items():
        yield name, ", ".join(show(v) for v in values)
    for name, value in run["settings"].items():
        for key, inner in value.items() if isinstance(value, dict) else [("", value)]:
            yield f"{name} {key}".strip(), str(inner)
    for name, value in run["data"].items():
        yield f"data: {name}", ", ".join(f"{k} {v}" for k, v in value.items())
    yield "device", run["device"]
    if "train_seconds" in run:
        rate = run["flops_per_step"] * run["settings"]["steps"] / run["train_seconds"]
        yield "compilation", f"{run['compile_seconds']:.1f} s"
        yield "training", f"{run['train_seconds']:.1f} s, {rate / 1e12:.3g} TFLOP/s"
    yield "versions", ", ".join(f"{k} {v}" for k, v in run["versions"].items())


def main() -> None:
    """Command line: makes figures and page of one workdir again."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m saejax.report WORKDIR")
    try:
        print(write(sys.argv[1]))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
