"""Watch dictionaries in three dimensions move onto the six features that made the data.

python -m saejax.experiments.toy3d --flagfile=experiments/toy3d/default.flags
"""

from collections.abc import Iterator
from pathlib import Path

from absl import flags

from saejax.analysis import baseline_fits
from saejax.core.files import append_rows
from saejax.data.synthetic.recipe import KINDS, Synthetic
from saejax.experiments.common import command, study
from saejax.experiments.common.flagtable import define
from saejax.results.result import Result
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep

# Samples that PCA sees.
PCA_SAMPLES = 8192

L1 = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
FLAGS = study.flags_of("runs/toy3d", l1=L1, seeds=("0-4",), lr=(0.01,), steps=3000, eval_every=100)
define(FLAGS, KINDS, dataset=("correlated", "Which features fire together."))
define(FLAGS, list, ratio=(["4", "8"], "d_sae over n_features."))
define(
    FLAGS,
    int,
    n_features=(6, "Number of true features."),
    batch_size=(256, "Samples in a batch."),
    snapshot_every=(10, "Steps between frames of the films."),
)
define(
    FLAGS,
    float,
    avg_active=(1.5, "Mean active features in a sample."),
    feature_decay=(0.9, "Ratio of successive firing probabilities."),
)
PCA_DRAWS = "Seeds over which PCA is measured; each draws its own features."
flags.DEFINE_integer("pca_draws", 100, PCA_DRAWS, flag_values=FLAGS, lower_bound=1)


def config() -> tuple[Sweep, Synthetic, Settings]:
    """Sweep, data and settings that the flags describe.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    ratio, lr = command.numbers(FLAGS, "ratio"), command.one_number(FLAGS, "lr")
    sweep = study.sweep(FLAGS, ratio=ratio, lr=lr)
    data = Synthetic(FLAGS.dataset, d_in=3, **command.given(FLAGS, Synthetic))
    if FLAGS.snapshot_every < 1:
        raise ValueError(f"snapshot_every: got {FLAGS.snapshot_every}, allowed: 1 or more")
    return sweep, data, study.settings(FLAGS)


def measure_pca(result: Result) -> None:
    """Leaves in the workdir what PCA recovers of the same data."""
    _, data, settings = config()
    seeds = range(FLAGS.pca_draws)
    plan = baseline_fits.Comparison(
        {FLAGS.dataset: data}, ("pca",), seeds, (PCA_SAMPLES,), (), settings.batch_size
    )
    measured = Path(FLAGS.workdir) / "pca.jsonl"
    measured.unlink(missing_ok=True)
    append_rows(measured, [fit.row for fit in baseline_fits.compare(plan)])
    print("drawing the report")


def said(result: Result) -> Iterator[str]:
    """The best SAE."""
    best = study.best(result, "mmcs_true_to_dict")
    if best is None:
        yield "every cell was frozen as not finite"
    else:
        mmcs = best["mmcs_true_to_dict"]
        yield f"best MMCS {mmcs:.3f} at l1 {best['l1']:.3g}, ratio {best['ratio']:g}"


def main(argv: list[str]) -> None:
    """Trains, measures PCA beside it, and leaves the report in the workdir."""
    study.run(argv, FLAGS, "toy3d", config, measure_pca, said)


if __name__ == "__main__":
    command.run(main, FLAGS)
