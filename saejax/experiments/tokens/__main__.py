"""Which groups of a handful of tokens get a latent of their own?

python -m saejax.experiments.tokens
python -m saejax.experiments.tokens --table=my_tokens.csv --workdir=runs/my-tokens
"""

from typing import Any

import jax.numpy as jnp

from saejax.data.source import FullBatch
from saejax.data.token_table import TokenTable, published, read_csv, to_json
from saejax.experiments.common import command, study
from saejax.experiments.common.flagtable import define
from saejax.sae.params import SAEConfig
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep

L1 = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
FLAGS = study.flags_of(
    "runs/tokens", l1=L1, seeds=("0-99",), lr=(0.01,), steps=2000, eval_every=100
)
TABLE = (
    "CSV file with your own tokens: a header, labels in the first column, an optional "
    "column `groups` (names separated by ;), numbers in all others. Default: the text's 8 tokens."
)
OWN = (
    "Share of a latent's activation that must fall on a group for the latent to be the group's own."
)
define(FLAGS, str, table=(None, TABLE))
define(FLAGS, int, d_sae=(20, "Number of latents."))
define(FLAGS, float, own_purity=(0.9, OWN))


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
    ratio = FLAGS.d_sae / table.x.shape[1]
    sweep = study.sweep(FLAGS, ratio=ratio, lr=command.one_number(FLAGS, "lr"))
    # Two plain linear layers with biases, as in the text.
    sae = SAEConfig(
        "mean", use_b_dec=True, unit_norm=False, init="linear", apply_b_dec_to_input=False
    )
    return (
        table,
        sweep,
        study.settings(FLAGS, batch_size=len(table.labels), eval_batches=1, sae=sae),
    )


def of_the_table() -> tuple[Sweep, Any, Settings, dict[str, Any]]:
    """Sweep, data and settings, and what the page needs to know of the tokens."""
    table, sweep, settings = config()
    about = {"own_purity": FLAGS.own_purity, "table": to_json(table)}
    return sweep, {"tokens": FullBatch(jnp.asarray(table.x))}, settings, about


def main(argv: list[str]) -> None:
    """Trains, and leaves the report in the workdir."""
    study.run(argv, FLAGS, "tokens", of_the_table)


if __name__ == "__main__":
    command.run(main, FLAGS)
