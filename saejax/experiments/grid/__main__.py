"""How L1, dictionary size, data and seed change what an SAE recovers.

python -m saejax.experiments.grid --flagfile=experiments/grid/quick.flags
"""

from collections.abc import Iterator

from absl import flags

from saejax.data.synthetic.recipe import KINDS, Synthetic
from saejax.experiments.common import architecture_flags, command, process, study
from saejax.experiments.common.flagtable import define, define_fields
from saejax.experiments.grid.figures import comparisons
from saejax.results.result import Result
from saejax.training.settings import Settings
from saejax.training.sweep import PUBLISHED_L1, PUBLISHED_RATIOS, Sweep

DATA_SETS = ["uncorrelated", "correlated"], f"Data sets, of: {', '.join(KINDS)}."
RATIOS = command.texts(PUBLISHED_RATIOS), "d_sae over n_features."


def define_sweep(own: flags.FlagValues) -> None:
    """The flags of the grid's sweep."""
    define(own, list, datasets=DATA_SETS, ratio=RATIOS)
    steps, eval_every = Settings.steps, Settings.eval_every
    command.define_training(
        own, l1=PUBLISHED_L1, seeds=(0,), lr=(0.001,), steps=steps, eval_every=eval_every
    )
    define_fields(own, Settings, batch_size="Samples in a batch.")
    define_fields(
        own,
        Synthetic,
        d_in="Width of the activations.",
        n_features="Number of true features.",
        avg_active="Mean active features in a sample.",
        feature_decay="Ratio of successive firing probabilities.",
        copula_strength="Coupling of the copula data set, 0 to below 1.",
    )
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
    which, ratio = architecture_flags.chosen_architectures(own), command.numbers(own, "ratio")
    sweep = study.sweep(own, **which, ratio=ratio, resample=ways)
    return sweep, command.data_sets(own), study.settings(own, resample=rule)


def said(result: Result) -> Iterator[str]:
    """The best SAE of each data set, and how the heat maps compare with the published ones."""
    for dataset in result.coords["dataset"]:
        best = study.best(result, "mmcs_true_to_dict", dataset=dataset)
        if best is None:
            yield f"{dataset}: every cell was frozen as not finite"
        else:
            mmcs = best["mmcs_true_to_dict"]
            yield f"{dataset}: best MMCS {mmcs:.3f} at {result.in_words(best)}"
    if compared := comparisons(result):
        yield f"rank correlation with the published heat maps:\n{compared}"


def main(argv: list[str]) -> None:
    """Trains, measures, and leaves the report in the workdir."""
    study.run(argv, FLAGS, "grid", config, said=said)


if __name__ == "__main__":
    command.run(main, FLAGS)
