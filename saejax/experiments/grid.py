"""The grid study: how L1, dictionary size, data and seed change what an SAE recovers.

python -m saejax.experiments.grid --flagfile=experiments/grid/quick.flags
"""

from absl import flags

from saejax import report
from saejax.data.synthetic import KINDS, Synthetic
from saejax.experiments import command, process
from saejax.report.sweep import comparisons
from saejax.settings import Settings
from saejax.sweep import PUBLISHED_L1, PUBLISHED_RATIOS, Sweep

DEFAULT = Settings()
FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, None)
flags.DEFINE_list(
    "datasets", ["uncorrelated", "correlated"], f"Data sets, of: {', '.join(KINDS)}.", flag_values=FLAGS
)
flags.DEFINE_list("ratio", command.texts(PUBLISHED_RATIOS), "d_sae over n_features.", flag_values=FLAGS)
command.define_training(
    FLAGS, l1=PUBLISHED_L1, seeds=(0,), lr=(0.001,), steps=DEFAULT.steps, eval_every=DEFAULT.eval_every
)
flags.DEFINE_integer("d_in", 256, "Width of the activations.", flag_values=FLAGS)
flags.DEFINE_integer("n_features", 512, "Number of true features.", flag_values=FLAGS)
flags.DEFINE_float("avg_active", 5.0, "Mean active features in a sample.", flag_values=FLAGS)
flags.DEFINE_float(
    "feature_decay", 0.99, "Ratio of successive firing probabilities.", flag_values=FLAGS
)
flags.DEFINE_float(
    "copula_strength", 0.5, "Coupling of the copula data set, 0 to below 1.", flag_values=FLAGS
)
flags.DEFINE_integer("batch_size", DEFAULT.batch_size, "Samples in a batch.", flag_values=FLAGS)
command.define_revival(FLAGS)
process.define_cache(FLAGS)
process.define_distributed(FLAGS)


def config() -> tuple[Sweep, dict[str, Synthetic], Settings]:
    """Sweep, data and settings that the flags describe.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    ways, rule = command.revival(FLAGS)
    sweep = Sweep(
        l1=command.numbers(FLAGS, "l1"),
        ratio=command.numbers(FLAGS, "ratio"),
        seeds=command.seeds(FLAGS),
        lr=command.numbers(FLAGS, "lr"),
        resample=ways,
    )
    settings = Settings(
        steps=FLAGS.steps,
        batch_size=FLAGS.batch_size,
        eval_every=FLAGS.eval_every,
        resample=rule,
        matmul_precision=FLAGS.matmul_precision,
        cell_batch=FLAGS.cell_batch,
    )
    return sweep, command.data_sets(FLAGS), settings


def main(argv: list[str]) -> None:
    """Trains, measures, and leaves the report in the workdir."""
    with command.one_line_errors(argv, FLAGS.workdir):
        result = command.trained(FLAGS, *config(), study={"name": "grid"})
        if result is None:
            return
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
    compared = comparisons(result)
    if compared:
        print(f"rank correlation with the published heat maps:\n{compared}")
    print(f"report: {page}")


if __name__ == "__main__":
    command.run(main, FLAGS)
