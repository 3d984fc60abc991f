"""How far do k-means, k-medoids, PCA and ICA get, and do SAEs get further?

python -m saejax.experiments.baselines --quick
python -m saejax.experiments.baselines --grid_workdir=runs/grid-seeds --flagfile=...
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm.auto import tqdm

from saejax import report
from saejax.analysis import baseline_fits, baselines, tsne
from saejax.analysis.baseline_fits import Comparison
from saejax.core.files import append_rows, write_arrays, write_text
from saejax.core.machine import machine
from saejax.data.synthetic.recipe import KINDS, Synthetic
from saejax.experiments.baselines import claims
from saejax.experiments.common import command
from saejax.experiments.common.flagtable import define
from saejax.experiments.grid import claims as grid_claims
from saejax.results import saving, workdir
from saejax.results.result import Result

FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "runs/baselines")
QUICK = (
    "Sizes for a laptop, the data of experiments/grid/quick.flags, instead of the "
    "published ones. Flags that are given hold all the same."
)
GRID = "Finished run of the grid study on the same data, whose SAEs stand beside the baselines."
define(FLAGS, bool, quick=(False, QUICK))
define(FLAGS, str, grid_workdir=(None, GRID))
define(
    FLAGS,
    list,
    datasets=(["uncorrelated", "correlated"], f"Data sets, of: {', '.join(KINDS)}."),
    methods=(list(baselines.METHODS), f"Methods, of: {', '.join(baselines.METHODS)}."),
    seeds=(["0-4"], "Each draws its own features and samples; 0-4 is five of them."),
    decays=(["0.95", "0.99", "1"], "Feature decays of the t-SNE maps."),
)
# Kind, published value, value of --quick and help of every flag whose default depends on --quick.
SIZES: dict[str, tuple[type, Any, Any, str]] = {
    "d_in": (int, 256, 48, "Width of the activations."),
    "n_features": (int, 512, 96, "Number of true features."),
    "avg_active": (float, 5.0, 1.2, "Mean active features in a sample."),
    "feature_decay": (float, 0.99, 0.98, "Ratio of successive firing probabilities."),
    "batch_size": (int, 4096, 128, "Samples that share a draw of the correlated data."),
    "tsne_samples": (int, 2048, 1000, "Samples in a map."),
    "sizes": (list, "512/1024/1536/2048", "256/512/1024/2048", "Numbers of samples."),
    "kmeans_sizes": (
        *(list, "8192/65536/409600", "4096/16384"),
        "Further numbers of samples for k-means alone.",
    ),
}
for _name, (_kind, _published, _quick, _text) in SIZES.items():
    _text += f" Default: {_published}; with --quick {_quick}."
    define(FLAGS, _kind, **{_name: (None, _text)})


def resolve() -> None:
    """Gives every size that was not set its published or its quick value."""
    for name, (kind, published, quick, _) in SIZES.items():
        if FLAGS[name].value is None:
            value = quick if FLAGS.quick else published
            FLAGS[name].value = value.split("/") if kind is list else value


def config() -> tuple[Comparison, dict[float, dict[str, Synthetic]], Result | None]:
    """Comparison, data of the maps for each decay, and the grid's result, that the flags describe.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    resolve()
    methods = command.chosen(FLAGS, "methods", baselines.METHODS)
    seeds = command.seeds(FLAGS)
    if not seeds or len({*seeds}) < len(seeds) or not all(0 <= seed < 2**32 for seed in seeds):
        raise ValueError(f"seeds: got {seeds}, allowed: distinct whole numbers from 0 to 2**32 - 1")
    specs = command.data_sets(FLAGS)
    sizes = {name: command.numbers(FLAGS, name, int) for name in ("sizes", "kmeans_sizes")}
    for name, values in sizes.items():
        if any(n < FLAGS.n_features for n in values) or (name == "sizes" and not values):
            raise ValueError(
                f"{name}: got {values}, allowed: numbers of samples from n_features="
                f"{FLAGS.n_features} on, because k-means and k-medoids need one for each feature"
            )
    if FLAGS.batch_size < 1:
        raise ValueError(f"batch_size: got {FLAGS.batch_size}, allowed: 1 or more")
    if FLAGS.tsne_samples <= tsne.PERPLEXITY:
        raise ValueError(
            f"tsne_samples: got {FLAGS.tsne_samples}, allowed: more than {tsne.PERPLEXITY:g}"
        )
    of_all, of_kmeans = sizes.values()
    plan = Comparison(specs, methods, seeds, of_all, of_kmeans, FLAGS.batch_size)
    maps = {}
    for decay in command.numbers(FLAGS, "decays"):
        try:
            maps[decay] = {name: replace(spec, feature_decay=decay) for name, spec in specs.items()}
        except ValueError as error:
            raise ValueError(
                f"decays: got {decay:g}, allowed: decays of possible data ({error})"
            ) from None
    return plan, maps, _grid(specs) if FLAGS.grid_workdir else None


def _grid(specs: dict[str, Synthetic]) -> Result:
    """The grid's result; refused where its data are not these, since then nothing compares."""
    folder = Path(FLAGS.grid_workdir)
    run = workdir.read_run(folder) if (folder / "run.json").exists() else {}
    if not run.get("finished") or not run.get("n_features"):
        raise ValueError(f"grid_workdir: got {str(folder)!r}, allowed: a finished grid run")
    grid = saving.load(folder)
    for name, spec in specs.items():
        theirs = grid.run["data"].get(name)
        if theirs is None:
            known = ", ".join(grid.run["data"])
            raise ValueError(f"datasets: got {name!r}, allowed with this grid_workdir: {known}")
        theirs = {**theirs, "batch_size": run["settings"]["batch_size"]}
        for setting, ours in {**asdict(spec), "batch_size": FLAGS.batch_size}.items():
            if setting.startswith("copula") and spec.kind != "copula":
                continue
            if theirs.get(setting) != ours:
                raise ValueError(
                    f"{setting}: got {ours}, allowed with this grid_workdir: "
                    f"{theirs.get(setting)}, as its SAEs were trained with"
                )
    return grid


def main(argv: list[str]) -> None:
    """Fits everything, and leaves the report in the workdir."""
    with command.one_line_errors(argv, FLAGS.workdir, goes_on=False):
        plan, maps, grid = config()
        for module, package in (("sklearn", "scikit-learn"), ("kmedoids", "kmedoids")):
            baselines.require(module, package, "the baselines study")
        saes = baseline_fits.of_saes(grid, plan) if grid is not None else {}
        was_there = Path(FLAGS.workdir).exists()
        path = workdir.new_workdir(FLAGS.workdir)
        fits = path / "fits.jsonl"
        try:
            _run(path, plan, maps, grid, saes)
        except BaseException:
            if not (fits.exists() and fits.stat().st_size):
                workdir.discard(path, fits.name, was_there)
            raise
        print(f"report: {report.write(path)}")


def _run(
    path: Path,
    plan: Comparison,
    maps: dict[float, dict[str, Synthetic]],
    grid: Result | None,
    saes: dict[str, np.ndarray],
) -> None:
    """Everything in the workdir but the report; `saes` are the best cosines of the grid's."""
    run = {
        "study": {"name": "baselines"},
        "data": {name: asdict(spec) for name, spec in plan.specs.items()},
        "plan": {k: list(v) for k, v in plan._asdict().items() if k not in ("specs", "batch_size")},
        "batch_size": plan.batch_size,
        "grid_workdir": FLAGS.grid_workdir,
        **machine("scikit-learn", "kmedoids"),
    }
    workdir.write_run(path, run, finished=False)
    write_text(path / "config.flags", command.flagfile(FLAGS))
    (path / "fits.jsonl").touch()
    with tqdm(total=plan.n_fits + sum(map(len, maps.values())), unit="fit") as bar:
        rows, arrays = _fit(path, plan, bar)
        write_arrays(path / "representedness.npz", arrays | saes)
        write_arrays(path / "tsne.npz", dict(_maps(plan, maps, bar)))
    rows = claims.of_baselines(rows, grid)
    append_rows(path / "claims.jsonl", [*rows, *(grid_claims.of_grid(grid) if grid else [])])
    workdir.write_run(path, run, finished=True)


def _fit(
    path: Path, plan: Comparison, bar: tqdm
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """All rows, and the best cosines [seeds, n_features] at the largest size of all methods."""
    rows, cosines = [], {}
    for row, best_cosine in baseline_fits.compare(plan):
        append_rows(path / "fits.jsonl", [row])
        rows.append(row)
        if row["n_samples"] == max(plan.sizes):
            cosines.setdefault(f"{row['dataset']}/{row['method']}", []).append(best_cosine)
        bar.set_postfix_str(f"{row['method']} of {row['n_samples']:,} samples: {row['mmcs']:.2f}")
        bar.update()
    return rows, {name: np.array(each) for name, each in cosines.items()}


def _maps(
    plan: Comparison, maps: dict[float, dict[str, Synthetic]], bar: tqdm
) -> Iterator[tuple[str, np.ndarray]]:
    """t-SNE maps, and which feature is strongest in each sample (-1: none)."""
    seed = plan.seeds[0]
    for decay, specs in maps.items():
        for name, spec in specs.items():
            bar.set_postfix_str(f"t-SNE, {name} data, decay {decay:g}")
            which = spec, seed, FLAGS.tsne_samples, plan.batch_size
            x, codes = baseline_fits.samples_of(*which), baseline_fits.codes_of(*which)
            yield f"{name}/{decay:g}/places", tsne.tsne(x, seed)
            yield f"{name}/{decay:g}/strongest", np.where(codes.any(1), codes.argmax(1), -1)
            bar.update()


if __name__ == "__main__":
    command.run(main, FLAGS)
