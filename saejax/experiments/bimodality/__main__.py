"""Do latents that larger dictionaries do not find look like random vectors?

python -m saejax.experiments.bimodality --flagfile=experiments/bimodality/quick.flags

From plain text to the answer in five stages: text, language model, activations, dictionaries,
analysis.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm.auto import tqdm

from saejax import report
from saejax.core.files import append_rows, write_arrays, write_text
from saejax.core.machine import machine
from saejax.core.table import Table
from saejax.experiments.bimodality import claims
from saejax.experiments.bimodality.analysis import analyse
from saejax.experiments.bimodality.claims import KEYS
from saejax.experiments.bimodality.measurement import measure
from saejax.experiments.bimodality.settings import AnalysisSettings
from saejax.experiments.common import command
from saejax.experiments.language import dictionaries
from saejax.experiments.language import stages as language_stages
from saejax.lm.model import hook_width
from saejax.lm.training import TrainedLM, spread_windows
from saejax.results import workdir
from saejax.results.result import Result
from saejax.sae.params import SAEConfig
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep

FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "runs/bimodality")
language_stages.define(FLAGS, hook="blocks.2.mlp.hook_post")
flags.DEFINE_list(
    "d_sae", ["256", "512", "1024", "2048"], "Sizes of dictionaries.", flag_values=FLAGS
)
command.define_training(
    FLAGS, l1=(0.0003, 0.001, 0.003), seeds=("0-2",), lr=(0.01,), steps=2000, eval_every=100
)
dictionaries.define(FLAGS)
flags.DEFINE_float("l1_shown", 0.001, "The l1 whose pictures are drawn.", flag_values=FLAGS)
for _name, _text in (
    ("n_random", "Random sets beside the learned MCS."),
    ("eval_windows", "Windows of validation text on which latents are measured."),
    ("n_ablated", "Latents of each dictionary that are ablated one by one; 0 for none."),
    ("ablation_windows", "Windows in which each of them is ablated, at most."),
    ("n_boot", "Resamples of every interval."),
):
    flags.DEFINE_integer(_name, getattr(AnalysisSettings, _name), _text, flag_values=FLAGS)
flags.DEFINE_float("cutoff", AnalysisSettings.cutoff, "MCS below it is low.", flag_values=FLAGS)
flags.DEFINE_float(
    "rare_below",
    AnalysisSettings.rare_below,
    "Share of tokens below which a latent is rare.",
    flag_values=FLAGS,
)


# Where stages lie; may change when an interrupted run goes on.
FOLDERS = ("workdir_lm", "store", "dictionaries")


def config() -> tuple[Sweep, Settings, AnalysisSettings]:
    """Sweep, its settings and those of the analysis that the flags describe.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    model, _ = language_stages.settings(FLAGS)
    language_stages.source(FLAGS)
    d_in = hook_width(model, FLAGS.hook)
    sizes = command.numbers(FLAGS, "d_sae", int)
    if len(sizes) < 2 or sorted(set(sizes)) != sizes or sizes[0] < 1:
        raise ValueError(
            f"d_sae: got {FLAGS['d_sae'].value!r}, allowed: two or more whole numbers from 1 on, "
            "rising"
        )
    sweep = Sweep(
        l1=command.numbers(FLAGS, "l1"),
        ratio=[d_sae / d_in for d_sae in sizes],
        seeds=command.seeds(FLAGS),
        lr=command.one_number(FLAGS, "lr"),
    )
    if FLAGS.l1_shown not in sweep.l1:
        raise ValueError(f"l1_shown: got {FLAGS.l1_shown}, allowed: one of l1, {sweep.l1}")
    settings = Settings(
        steps=FLAGS.steps,
        batch_size=FLAGS.batch_size,
        eval_every=FLAGS.eval_every,
        eval_batches=FLAGS.eval_batches,
        sae=SAEConfig(l1_reduction="sum", use_b_dec=True, init="tied"),
        matmul_precision=FLAGS.matmul_precision,
        cell_batch=FLAGS.cell_batch,
    )
    dictionaries.check_held_out(FLAGS, settings)
    analysis = AnalysisSettings(**command.given(FLAGS, AnalysisSettings))
    return sweep, settings, analysis


def main(argv: list[str]) -> None:
    """Runs all stages, and leaves the report in the workdir."""
    with command.one_line_errors(argv, FLAGS.workdir, stages=True) as until_end:
        sweep, settings, analysis = config()
        width = hook_width(language_stages.settings(FLAGS)[0], FLAGS.hook)
        plan = dictionaries.planned(FLAGS, width, sweep, settings)
        if FLAGS.dry_run:
            command.dry_run(plan)
            return
        path = command.continued_workdir(FLAGS, "bimodality", FOLDERS, until_end)
        lm_folder = Path(FLAGS.workdir_lm or path / "lm")
        stages = language_stages.Stages()
        corpus = language_stages.text(FLAGS, stages, lm_folder / "text")
        lm = language_stages.language_model(FLAGS, stages, corpus, lm_folder / "model")
        store = language_stages.activations(
            FLAGS, stages, lm, corpus, Path(FLAGS.store or path / "store")
        )
        folder = Path(FLAGS.dictionaries or path / "dictionaries")
        result = dictionaries.trained(FLAGS, stages, folder, store, sweep, settings)
        windows = spread_windows(corpus.validation, FLAGS.eval_windows, FLAGS.context + 1)
        run = {
            "study": {"name": "bimodality", "l1_shown": FLAGS.l1_shown, **asdict(analysis)},
            "hook": FLAGS.hook,
            "d_in": store.d,
            "coords": {"l1": sweep.l1, "d_sae": sorted(result.d_sae), "seed": sweep.seeds},
            **language_stages.summary(lm, corpus),
            "store": {"rows": len(store), "dtype": store.config.dtype, "checksum": store.checksum},
            "sweep": {
                "steps": settings.steps,
                "batch_size": settings.batch_size,
                "lr": sweep.lr[0],
                "held_out": FLAGS.held_out,
                "train_seconds": result.run["train_seconds"],
            },
            **machine("flax", "optax"),
        }
        _analyse(stages, path, run, result, lm, windows, analysis)
        print(f"report: {report.write(path)}")


def _analyse(
    stages: language_stages.Stages,
    path: Path,
    run: dict[str, Any],
    result: Result,
    lm: TrainedLM,
    windows: np.ndarray,
    settings: AnalysisSettings,
) -> None:
    """Measures and compares the dictionaries, and writes what was found."""
    with stages.stage("analysis", path, False):
        of_ablation, of_analysis = jax.random.split(jax.random.key(settings.seed))
        arrays: dict[str, np.ndarray] = {}
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in KEYS}
        n_cells = result.final["frozen_at"].size
        with tqdm(total=n_cells + len(run["coords"]["l1"]), desc="analysis") as bar:

            def done(name: str) -> None:
                bar.set_postfix_str(name)
                bar.update()

            hook = run["hook"]
            measured = measure(result, lm.model, windows, hook, settings, of_ablation, done)
            for l1 in run["coords"]["l1"]:
                found = analyse(result, measured, l1, settings, of_analysis)
                arrays |= found.arrays
                for table, new in found.rows.items():
                    rows[table] += new
                done(f"l1 {l1:g}, matching")
        losses = measured.ablated._asdict()
        arrays |= {f"losses/{name}": values for name, values in losses.items()}
        judged = claims.of_bimodality(rows, run["d_in"])
    run |= {
        "losses": {name: float(values.mean(dtype=np.float64)) for name, values in losses.items()},
        "eval_tokens": int(windows[:, 1:].size),
        "emd_labels": [
            "learned",
            *(f"rand {i + 1}" for i in range(settings.n_random)),
            "alt params",
        ],
        "stages": stages.rows,
    }
    (path / "analysis").mkdir(exist_ok=True)
    write_arrays(path / "analysis.npz", arrays)
    for name, table in (*((f"analysis/{n}", t) for n, t in rows.items()), ("claims", judged)):
        (path / f"{name}.jsonl").unlink(missing_ok=True)
        append_rows(path / f"{name}.jsonl", table)
    write_text(path / "results.csv", Table(rows["cells"]).to_csv())
    workdir.write_run(path, run, finished=True)


if __name__ == "__main__":
    command.run(main, FLAGS)
