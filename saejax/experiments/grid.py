"""The grid study: how L1, dictionary size, data and seed change what an SAE recovers.

python -m saejax.experiments.grid --flagfile=experiments/grid/quick.flags
"""

import sys
import warnings
from pathlib import Path

from absl import app, flags, logging

from saejax import report
from saejax.data.synthetic import KINDS, Synthetic
from saejax.precision import PRECISIONS
from saejax.resample import Resample
from saejax.settings import Settings
from saejax.sweep import PUBLISHED_L1, PUBLISHED_RATIOS, Sweep
from saejax.train import train

DEFAULT = Settings()


def _texts(values: tuple) -> list[str]:
    return [f"{v:.7g}" if isinstance(v, float) else str(v) for v in values]


FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder for the results; new or empty.", required=True)
flags.DEFINE_list("datasets", ["uncorrelated", "correlated"], f"Data sets, of: {', '.join(KINDS)}.")
flags.DEFINE_list("ratio", _texts(PUBLISHED_RATIOS), "d_sae over n_features.")
flags.DEFINE_list("l1", _texts(PUBLISHED_L1), "L1 coefficients.")
flags.DEFINE_list("seeds", ["0"], "Each draws its own features, batches and weights.")
flags.DEFINE_list("lr", ["0.001"], "Adam's learning rates.")
flags.DEFINE_integer("d_in", 256, "Width of the activations.")
flags.DEFINE_integer("n_features", 512, "Number of true features.")
flags.DEFINE_float("avg_active", 5.0, "Mean number of active features in a sample.")
flags.DEFINE_float("feature_decay", 0.99, "Ratio of successive firing probabilities.")
flags.DEFINE_float("copula_strength", 0.5, "Coupling of the copula data set, 0 to below 1.")
flags.DEFINE_integer("steps", DEFAULT.steps, "Training steps, each on a fresh batch.")
flags.DEFINE_integer("batch_size", DEFAULT.batch_size, "Samples in a batch.")
flags.DEFINE_integer("eval_every", DEFAULT.eval_every, "Steps between evaluations.")
flags.DEFINE_integer("resample_every", 0, "Steps between revivals of dead latents; 0 is never.")
flags.DEFINE_list(
    "resample", None, "Whether cells revive dead latents: on, off, or both to compare. Default: on "
    "where resample_every is above 0.")  # fmt: skip
flags.DEFINE_enum(
    "matmul_precision", DEFAULT.matmul_precision, list(PRECISIONS), "Operands of the products."
)
flags.DEFINE_integer(
    "cell_batch", None, "Cells of one width trained side by side. Default: 1 on a CPU, else as many "
    "as fit.")  # fmt: skip
NAMES = (
    "workdir", "datasets", "ratio", "l1", "seeds", "lr", "d_in", "n_features", "avg_active",
    "feature_decay", "copula_strength", "steps", "batch_size", "eval_every", "resample_every",
    "resample", "matmul_precision", "cell_batch",
)  # fmt: skip


def _numbers(name: str, kind: type) -> list:
    try:
        return [kind(text) for text in FLAGS[name].value or []]
    except ValueError:
        raise ValueError(
            f"{name}: got {FLAGS[name].value!r}, allowed: "
            f"{'whole numbers' if kind is int else 'numbers'} separated by commas"
        ) from None


def config() -> tuple[Sweep, dict[str, Synthetic], Settings]:
    """Sweep, data and settings that the flags describe.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    on_off = {"on": True, "off": False}
    resample = FLAGS.resample or (["on"] if FLAGS.resample_every else ["off"])
    for value in resample:
        if value not in on_off:
            raise ValueError(f"resample: got {value!r}, allowed: on, off, or on,off")
    sweep = Sweep(
        l1=_numbers("l1", float),
        ratio=_numbers("ratio", float),
        seeds=_numbers("seeds", int),
        lr=_numbers("lr", float),
        resample=[on_off[value] for value in resample],
    )
    if not FLAGS.datasets or len(set(FLAGS.datasets)) < len(FLAGS.datasets):
        raise ValueError(
            f"datasets: got {','.join(FLAGS.datasets)!r}, allowed: each of {', '.join(KINDS)} at most "
            "once, at least one"
        )
    for kind in FLAGS.datasets:
        if kind not in KINDS:
            raise ValueError(f"datasets: got {kind!r}, allowed: {', '.join(KINDS)}")
    data = {
        kind: Synthetic(
            kind,
            d_in=FLAGS.d_in,
            n_features=FLAGS.n_features,
            avg_active=FLAGS.avg_active,
            feature_decay=FLAGS.feature_decay,
            copula_strength=FLAGS.copula_strength,
        )
        for kind in FLAGS.datasets
    }
    settings = Settings(
        steps=FLAGS.steps,
        batch_size=FLAGS.batch_size,
        eval_every=FLAGS.eval_every,
        resample=Resample(every=FLAGS.resample_every),
        matmul_precision=FLAGS.matmul_precision,
        cell_batch=FLAGS.cell_batch,
    )
    return sweep, data, settings


def flagfile() -> str:
    """Flagfile that replays this run: every flag of the study that has a value."""
    lines = [
        f"--{name}={','.join(value) if isinstance(value, list) else value}"
        for name in NAMES
        if (value := FLAGS[name].value) is not None
    ]
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    """Trains, measures, and leaves the report in the workdir."""
    logging.set_verbosity(logging.WARNING)  # JAX announces every backend that it does not find
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        if len(argv) > 1:
            raise ValueError(f"got the argument {argv[1]!r}, allowed: flags only")
        sweep, data, settings = config()
        result = train(sweep, data, settings, workdir=FLAGS.workdir, flags=flagfile())
    except (ValueError, FileExistsError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(
            f"interrupted; the evaluations so far are in {Path(FLAGS.workdir) / 'metrics.jsonl'}, and "
            f"`python -m saejax.report {FLAGS.workdir}` shows them"
        )
    page = report.write(FLAGS.workdir)
    for dataset in result.coords["dataset"]:
        try:
            best = result.best("mmcs_true_to_dict", dataset=dataset)
        except ValueError:
            print(f"{dataset}: every cell was frozen as not finite")
            continue
        print(
            f"{dataset}: best MMCS {best['mmcs_true_to_dict']:.3f} at l1 {best['l1']:.3g}, ratio "
            f"{best['ratio']:g}"
        )
    compared = report.comparisons(result)
    if compared:
        print(f"rank correlation with the published heat maps:\n{compared}")
    print(f"report: {page}")


if __name__ == "__main__":
    app.run(main)
