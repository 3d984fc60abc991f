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
from saejax.core.machine import machine
from saejax.experiments.bimodality import claims
from saejax.experiments.bimodality.analysis import analyse
from saejax.experiments.bimodality.measurement import measure
from saejax.experiments.bimodality.settings import AnalysisSettings
from saejax.experiments.common import command, study
from saejax.experiments.common.flagtable import define, define_fields
from saejax.experiments.common.stages import Stages, continued_workdir
from saejax.experiments.language import dictionaries, workdirs
from saejax.experiments.language import stages as language_stages
from saejax.lm.model import hook_width
from saejax.lm.training import TrainedLM, spread_windows
from saejax.results.result import Result
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep

# Where stages lie; may change when an interrupted run goes on.
FOLDERS = ("workdir_lm", "store", "dictionaries")

FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "runs/bimodality")
language_stages.define(FLAGS, hook="blocks.2.mlp.hook_post")
define(FLAGS, list, d_sae=(["256", "512", "1024", "2048"], "Sizes of dictionaries."))
L1 = (0.0003, 0.001, 0.003)
command.define_training(FLAGS, l1=L1, seeds=("0-2",), lr=(0.01,), steps=2000, eval_every=100)
dictionaries.define(FLAGS)
define(FLAGS, float, l1_shown=(0.001, "The l1 whose pictures are drawn."))
define_fields(
    FLAGS,
    AnalysisSettings,
    n_random="Random sets beside the learned MCS.",
    eval_windows="Windows of validation text on which latents are measured.",
    n_ablated="Latents of each dictionary that are ablated one by one; 0 for none.",
    ablation_windows="Windows in which each of them is ablated, at most.",
    n_boot="Resamples of every interval.",
    cutoff="MCS below it is low.",
    rare_below="Share of tokens below which a latent is rare.",
)


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
    ratio, lr = [d_sae / d_in for d_sae in sizes], command.one_number(FLAGS, "lr")
    sweep = study.sweep(FLAGS, ratio=ratio, lr=lr)
    if FLAGS.l1_shown not in sweep.l1:
        raise ValueError(f"l1_shown: got {FLAGS.l1_shown}, allowed: one of l1, {sweep.l1}")
    settings = dictionaries.settings(FLAGS)
    return sweep, settings, AnalysisSettings(**command.given(FLAGS, AnalysisSettings))


def main(argv: list[str]) -> None:
    """Runs all stages, and leaves the report in the workdir."""
    with command.one_line_errors(argv, FLAGS.workdir, stages=True) as until_end:
        sweep, settings, analysis = config()
        width = hook_width(language_stages.settings(FLAGS)[0], FLAGS.hook)
        plan = dictionaries.planned(FLAGS, width, sweep, settings)
        if FLAGS.dry_run:
            command.dry_run(plan)
            return
        path = continued_workdir(FLAGS, "bimodality", FOLDERS, until_end)
        lm_folder = Path(FLAGS.workdir_lm or path / "lm")
        stages = Stages()
        corpus = language_stages.text(FLAGS, stages, lm_folder / "text")
        lm = language_stages.language_model(FLAGS, stages, corpus, lm_folder / "model")
        store_folder = Path(FLAGS.store or path / "store")
        store = language_stages.activations(FLAGS, stages, lm, corpus, store_folder)
        folder = Path(FLAGS.dictionaries or path / "dictionaries")
        result = dictionaries.trained(FLAGS, stages, folder, store, sweep, settings)
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
        windows = spread_windows(corpus.validation, FLAGS.eval_windows, FLAGS.context + 1)
        with stages.stage("analysis", path, False):
            arrays, rows, losses = _analyse(result, lm, windows, FLAGS.hook, analysis)
            judged = claims.of_bimodality(rows, store.d)
        random = (f"rand {i + 1}" for i in range(analysis.n_random))
        run |= {
            "losses": losses,
            "eval_tokens": int(windows[:, 1:].size),
            "emd_labels": ["learned", *random, "alt params"],
            "stages": stages.rows,
        }
        workdirs.write(workdirs.Contents(path, run, arrays, rows), judged)
        print(f"report: {report.write(path)}")


def _analyse(
    result: Result, lm: TrainedLM, windows: np.ndarray, hook: str, settings: AnalysisSettings
) -> tuple[dict[str, Any], dict[str, workdirs.Rows], dict[str, float]]:
    """Arrays, tables and losses of the model: what the dictionaries do, and how they compare."""
    of_ablation, of_analysis = jax.random.split(jax.random.key(settings.seed))
    arrays: dict[str, np.ndarray] = {}
    rows: dict[str, workdirs.Rows] = {name: [] for name in claims.KEYS}
    l1s = result.coords["l1"]
    with tqdm(total=result.final["frozen_at"].size + len(l1s), desc="analysis") as bar:

        def done(name: str) -> None:
            bar.set_postfix_str(name)
            bar.update()

        measured = measure(result, lm.model, windows, hook, settings, of_ablation, done)
        for l1 in l1s:
            found = analyse(result, measured, l1, settings, of_analysis)
            arrays |= found.arrays
            for table, new in found.rows.items():
                rows[table] += new
            done(f"l1 {l1:g}, matching")
    losses = measured.ablated._asdict()
    arrays |= {f"losses/{name}": values for name, values in losses.items()}
    means = {name: float(values.mean(dtype=np.float64)) for name, values in losses.items()}
    return arrays, rows, means


if __name__ == "__main__":
    command.run(main, FLAGS)
