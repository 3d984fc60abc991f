"""How L1, dictionary size, data and seed change what an SAE recovers.

python -m saejax.experiments.grid --flagfile=experiments/grid/quick.flags
"""

from absl import flags

from saejax import report
from saejax.data.synthetic.recipe import KINDS, Synthetic
from saejax.experiments.common import architecture_flags, command, process
from saejax.experiments.grid.figures import comparisons
from saejax.training.settings import Settings
from saejax.training.sweep import PUBLISHED_L1, PUBLISHED_RATIOS, Sweep

DEFAULT = Settings()


def define_sweep(own: flags.FlagValues) -> None:
    """The flags of the grid's sweep."""
    flags.DEFINE_list(
        "datasets",
        ["uncorrelated", "correlated"],
        f"Data sets, of: {', '.join(KINDS)}.",
        flag_values=own,
    )
    flags.DEFINE_list(
        "ratio", command.texts(PUBLISHED_RATIOS), "d_sae over n_features.", flag_values=own
    )
    command.define_training(
        own,
        l1=PUBLISHED_L1,
        seeds=(0,),
        lr=(0.001,),
        steps=DEFAULT.steps,
        eval_every=DEFAULT.eval_every,
    )
    for name, whole, text in (
        ("d_in", 256, "Width of the activations."),
        ("n_features", 512, "Number of true features."),
        ("batch_size", DEFAULT.batch_size, "Samples in a batch."),
    ):
        flags.DEFINE_integer(name, whole, text, flag_values=own)
    for name, real, text in (
        ("avg_active", 5.0, "Mean active features in a sample."),
        ("feature_decay", 0.99, "Ratio of successive firing probabilities."),
        ("copula_strength", 0.5, "Coupling of the copula data set, 0 to below 1."),
    ):
        flags.DEFINE_float(name, real, text, flag_values=own)
    architecture_flags.define(own)
    command.define_revival(own)
    process.define_cache(own)


FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, None)
define_sweep(FLAGS)
process.define_distributed(FLAGS)


def config(own: flags.FlagValues = FLAGS) -> tuple[Sweep, dict[str, Synthetic], Settings]:
    """Sweep, data and settings that the flags describe.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    ways, rule = command.revival(own)
    sweep = Sweep(
        **architecture_flags.chosen_architectures(own),
        ratio=command.numbers(own, "ratio"),
        seeds=command.seeds(own),
        lr=command.numbers(own, "lr"),
        resample=ways,
    )
    settings = Settings(
        steps=own.steps,
        batch_size=own.batch_size,
        eval_every=own.eval_every,
        resample=rule,
        matmul_precision=own.matmul_precision,
        cell_batch=own.cell_batch,
    )
    return sweep, command.data_sets(own), settings


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
        found = best["mmcs_true_to_dict"]
        print(f"{dataset}: best MMCS {found:.3f} at {result.in_words(best)}")
    compared = comparisons(result)
    if compared:
        print(f"rank correlation with the published heat maps:\n{compared}")
    print(f"report: {page}")


if __name__ == "__main__":
    command.run(main, FLAGS)
