"""Which architecture finds the true features of realistic synthetic data?

python -m saejax.experiments.synthbench --flagfile=experiments/synthbench/reduced.flags
"""

from collections.abc import Iterator
from typing import Any

from absl import flags

from saejax.data.synthetic.recipe import Synthetic
from saejax.data.synthetic.synthsaebench import synthsaebench_16k
from saejax.experiments.common import architecture_flags, command, process, study
from saejax.experiments.common.flagtable import define
from saejax.results.result import Result
from saejax.sae.params import SAEConfig
from saejax.sae.registry import KINDS, Matryoshka
from saejax.sae.revival import Resample
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep

DATASET = "synthsaebench"
# The prefixes of the published runs: 128, 512, 2048 and 4096 of 4096 latents.
PREFIXES = (1 / 32, 1 / 8, 1 / 2, 1.0)
# The k of the published runs at the true L0, for whoever gives none.
PUBLISHED_K = (25,)
# Which architectures revive dead latents by which flag; JumpReLU's paper has no such thing.
RESAMPLED, HELPED = ("relu", "gated"), ("topk", "batchtopk", "matryoshka")
WINDOW = (
    "Steps in which a latent must have been silent before. Default: 10, "
    "or resample_every where that is less."
)
AUX_AFTER = (
    "Steps of silence from which the auxiliary loss revives latents, of topk, "
    "batchtopk and matryoshka; 0 is never."
)


def define_sweep(own: flags.FlagValues) -> None:
    """The flags of the study; defaults are the published values where there are any."""
    define(own, list, ratio=(["0.25"], "d_sae over n_features, one number."))
    command.define_training(
        own, l1=(0.0025,), seeds=("0-4",), lr=(0.0003,), steps=195_000, eval_every=5000
    )
    every = "Steps between Anthropic's revivals, of relu and gated; 0 is never."
    define(
        own,
        int,
        scale=(1, "By what the 16384 published features are divided, of: 1, 4, 16, 64."),
        batch_size=(1024, "Samples in a batch."),
        eval_batches=(100, "Batches of an evaluation."),
        resample_every=(0, every),
        resample_window=(None, WINDOW),
        aux_after=(1000, AUX_AFTER),
    )
    architecture_flags.define(own)
    own.set_default("architecture", list(KINDS))
    for name in ("bandwidth", "initial_threshold"):
        own.set_default(name, 0.05)
    process.define_cache(own)


FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, None)
define_sweep(FLAGS)
process.define_distributed(FLAGS)


def sparsity(own: flags.FlagValues) -> dict[str, Any]:
    """The arguments of `Sweep` that say which SAEs there are, and how sparse.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    chosen = architecture_flags.chosen_architectures(own)
    names = own["architecture"].value or ()
    if chosen["k"] is None and any(KINDS[name].reads == "k" for name in names):
        chosen["k"] = PUBLISHED_K
    nested = Matryoshka(prefixes=PREFIXES)
    kinds = [nested if kind == "matryoshka" else kind for kind in chosen["architecture"]]
    return chosen | {"architecture": kinds}


def revival(own: flags.FlagValues) -> tuple[dict[str, str], Resample]:
    """How each architecture revives dead latents, and the rule.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    names = command.chosen(own, "architecture", list(KINDS))
    ways = dict.fromkeys(names, "off")
    if own.resample_every:
        ways |= {name: "anthropic" for name in names if name in RESAMPLED}
    if own.aux_after:
        ways |= {name: "auxk" for name in names if name in HELPED}
    resampled, helped = ({*names} & {*group} for group in (RESAMPLED, HELPED))
    with command.flag_names(**{"resample window": "resample_window"}):
        rule = Resample(
            every=own.resample_every if resampled else 0,
            window=own.resample_window if resampled else None,
            aux_after=own.aux_after if helped else 0,
        )
    return ways, rule


def config(own: flags.FlagValues = FLAGS) -> tuple[Sweep, dict[str, Synthetic], Settings]:
    """Sweep, data and settings that the flags describe.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    ways, rule = revival(own)
    ratio, lr = (command.one_number(own, name) for name in ("ratio", "lr"))
    sweep = study.sweep(own, **sparsity(own), ratio=ratio, lr=lr, resample=ways)
    sae = SAEConfig(l1_reduction="sum", use_b_dec=True, init="tied")
    settings = study.settings(own, sae=sae, resample=rule)
    return sweep, {DATASET: synthsaebench_16k(own.scale)}, settings


def said(result: Result) -> Iterator[str]:
    """The best SAE of each architecture."""
    for name in result.coords["architecture"]:
        best = study.best(result, "f1", architecture=name)
        if best is None:
            yield f"{name}: every cell was frozen as not finite"
        else:
            yield f"{result.in_words(best)}: best F1 {best['f1']:.3f}, L0 {best['l0']:.2f}"


def main(argv: list[str]) -> None:
    """Trains, measures, and leaves the report in the workdir."""
    about = {"scale": FLAGS.scale}
    study.run(argv, FLAGS, "synthbench", lambda: (*config(), about), said=said)


if __name__ == "__main__":
    command.run(main, FLAGS)
