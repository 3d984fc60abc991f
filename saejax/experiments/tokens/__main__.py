"""Which groups of a handful of tokens get a latent of their own?

python -m saejax.experiments.tokens
python -m saejax.experiments.tokens --table=my_tokens.csv --workdir=runs/my-tokens
"""

import jax.numpy as jnp
from absl import flags

from saejax import report
from saejax.data.source import FullBatch
from saejax.data.token_table import TokenTable, published, read_csv, to_json
from saejax.experiments.common import command, process
from saejax.sae.params import SAEConfig
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep

FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "runs/tokens")
flags.DEFINE_string(
    "table",
    None,
    "CSV file with your own tokens: a header, labels in the first column, an optional "
    "column `groups` (names separated by ;), numbers in all others. Default: the text's 8 tokens.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("d_sae", 20, "Number of latents.", flag_values=FLAGS)
command.define_training(
    FLAGS,
    l1=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
    seeds=("0-99",),
    lr=(0.01,),
    steps=2000,
    eval_every=100,
)
flags.DEFINE_float(
    "own_purity",
    0.9,
    "Share of a latent's activation that must fall on a group for the latent to be "
    "the group's own.",
    flag_values=FLAGS,
)
process.define_cache(FLAGS)
process.define_distributed(FLAGS)


def config() -> tuple[TokenTable, Sweep, Settings]:
    """Tokens, sweep and settings that the flags describe.

    Raises:
        ValueError: naming the flag or the file's line, the value got and what is allowed.
        OSError: for a table that cannot be read.
    """
    table = read_csv(FLAGS.table) if FLAGS.table else published()
    if FLAGS.d_sae < 1:
        raise ValueError(f"d_sae: got {FLAGS.d_sae}, allowed: 1 or more")
    if not 0 < FLAGS.own_purity <= 1:
        raise ValueError(f"own_purity: got {FLAGS.own_purity}, allowed: above 0, up to 1")
    sweep = Sweep(
        l1=command.numbers(FLAGS, "l1"),
        ratio=FLAGS.d_sae / table.x.shape[1],
        seeds=command.seeds(FLAGS),
        lr=command.one_number(FLAGS, "lr"),
    )
    settings = Settings(
        steps=FLAGS.steps,
        batch_size=len(table.labels),
        eval_every=FLAGS.eval_every,
        eval_batches=1,
        # Two plain linear layers with biases, as in the text.
        sae=SAEConfig(
            l1_reduction="mean",
            use_b_dec=True,
            unit_norm=False,
            init="linear",
            apply_b_dec_to_input=False,
        ),
        matmul_precision=FLAGS.matmul_precision,
        cell_batch=FLAGS.cell_batch,
    )
    return table, sweep, settings


def main(argv: list[str]) -> None:
    """Trains, and leaves the report in the workdir."""
    with command.one_line_errors(argv, FLAGS.workdir):
        table, sweep, settings = config()
        study = {"name": "tokens", "own_purity": FLAGS.own_purity, "table": to_json(table)}
        data = {"tokens": FullBatch(jnp.asarray(table.x))}
        if command.trained(FLAGS, sweep, data, settings, study=study) is None:
            return
        print(f"report: {report.write(FLAGS.workdir)}")


if __name__ == "__main__":
    command.run(main, FLAGS)
