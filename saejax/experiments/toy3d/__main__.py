"""Watch dictionaries in three dimensions move onto the six features that made the data.

python -m saejax.experiments.toy3d --flagfile=experiments/toy3d/default.flags
"""

from pathlib import Path

from absl import flags

from saejax import report
from saejax.analysis import baseline_fits
from saejax.core.files import append_rows
from saejax.data.synthetic.recipe import KINDS, Synthetic
from saejax.experiments.common import command, process
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep

FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "runs/toy3d")
flags.DEFINE_enum(
    "dataset", "correlated", KINDS, "Which features fire together.", flag_values=FLAGS
)
flags.DEFINE_list("ratio", ["4", "8"], "d_sae over n_features.", flag_values=FLAGS)
command.define_training(
    FLAGS,
    l1=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    seeds=("0-4",),
    lr=(0.01,),
    steps=3000,
    eval_every=100,
)
flags.DEFINE_integer("n_features", 6, "Number of true features.", flag_values=FLAGS)
flags.DEFINE_float("avg_active", 1.5, "Mean active features in a sample.", flag_values=FLAGS)
flags.DEFINE_float(
    "feature_decay", 0.9, "Ratio of successive firing probabilities.", flag_values=FLAGS
)
flags.DEFINE_integer("batch_size", 256, "Samples in a batch.", flag_values=FLAGS)
flags.DEFINE_integer("snapshot_every", 10, "Steps between frames of the films.", flag_values=FLAGS)
flags.DEFINE_integer(
    "pca_draws",
    100,
    "Seeds over which PCA is measured; each draws its own features.",
    flag_values=FLAGS,
    lower_bound=1,
)
process.define_cache(FLAGS)
process.define_distributed(FLAGS)
# Samples that PCA sees.
PCA_SAMPLES = 8192


def config() -> tuple[Sweep, Synthetic, Settings]:
    """Sweep, data and settings that the flags describe.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    sweep = Sweep(
        l1=command.numbers(FLAGS, "l1"),
        ratio=command.numbers(FLAGS, "ratio"),
        seeds=command.seeds(FLAGS),
        lr=command.one_number(FLAGS, "lr"),
    )
    data = Synthetic(
        FLAGS.dataset,
        d_in=3,
        n_features=FLAGS.n_features,
        avg_active=FLAGS.avg_active,
        feature_decay=FLAGS.feature_decay,
    )
    if FLAGS.snapshot_every < 1:
        raise ValueError(f"snapshot_every: got {FLAGS.snapshot_every}, allowed: 1 or more")
    settings = Settings(
        steps=FLAGS.steps,
        batch_size=FLAGS.batch_size,
        eval_every=FLAGS.eval_every,
        snapshot_every=FLAGS.snapshot_every,
        matmul_precision=FLAGS.matmul_precision,
        cell_batch=FLAGS.cell_batch,
    )
    return sweep, data, settings


def main(argv: list[str]) -> None:
    """Trains, measures PCA beside it, and leaves the report in the workdir."""
    with command.one_line_errors(argv, FLAGS.workdir):
        sweep, data, settings = config()
        result = command.trained(FLAGS, sweep, data, settings, study={"name": "toy3d"})
        if result is None:
            return
        seeds, batch_size = range(FLAGS.pca_draws), settings.batch_size
        plan = baseline_fits.Comparison(
            {FLAGS.dataset: data}, ("pca",), seeds, (PCA_SAMPLES,), (), batch_size
        )
        measured = Path(FLAGS.workdir) / "pca.jsonl"
        measured.unlink(missing_ok=True)
        append_rows(measured, [found.row for found in baseline_fits.compare(plan)])
        print("drawing the report")
        page = report.write(FLAGS.workdir)
    try:
        best = result.best("mmcs_true_to_dict")
        mmcs = best["mmcs_true_to_dict"]
        print(f"best MMCS {mmcs:.3f} at l1 {best['l1']:.3g}, ratio {best['ratio']:g}")
    except ValueError:
        print("every cell was frozen as not finite")
    print(f"report: {page}")


if __name__ == "__main__":
    command.run(main, FLAGS)
