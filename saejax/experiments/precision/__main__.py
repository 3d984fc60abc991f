"""What the operands of the training's products do to results: the grid at several precisions.

python -m saejax.experiments.precision --flagfile=experiments/precision/quick.flags
"""

from dataclasses import replace

from absl import flags

from saejax.core.files import write_text
from saejax.core.precision import PRECISIONS
from saejax.experiments.common import command, stages
from saejax.experiments.common.flagtable import define
from saejax.experiments.grid import __main__ as grid
from saejax.results.compare import agreement
from saejax.results.workdir import write_run
from saejax.training.loop import train
from saejax.training.planning import make_plan

METRICS = ("mmcs_true_to_dict", "fvu", "dead_latents")
FLAGS = flags.FlagValues()
command.define_workdir(FLAGS, "runs/precision")
grid.define_sweep(FLAGS)
OTHERS = f"Compared with matmul_precision, of: {', '.join(PRECISIONS)}."
define(FLAGS, list, precisions=(["tf32", "bf16"], OTHERS))


def main(argv: list[str]) -> None:
    """Trains the grid at each precision, a folder each, and prints how far they differ."""
    with command.one_line_errors(argv, FLAGS.workdir, stages=True) as until_end:
        others = command.chosen(FLAGS, "precisions", PRECISIONS)
        sweep, data, settings = grid.config(FLAGS)
        if settings.matmul_precision in others:
            raise ValueError(
                f"precisions: got {settings.matmul_precision!r}, allowed: others than "
                "matmul_precision"
            )
        if len(sweep.seeds) < 2:
            raise ValueError(f"seeds: got {sweep.seeds}, allowed: two or more, for a spread")
        plan = make_plan(sweep, data, settings)
        if FLAGS.dry_run:
            command.dry_run(plan)
            print(f"this {1 + len(others)} times, once for each precision")
            return
        path = stages.continued_workdir(FLAGS, "precision", (), until_end)
        results = {}
        for name in (settings.matmul_precision, *others):
            at_precision = replace(settings, matmul_precision=name)
            kept = {"workdir": path / name, "study": {"name": "grid"}, **command.saving(FLAGS)}
            results[name] = train(sweep, data, at_precision, **kept)
        reference = results.pop(settings.matmul_precision)
        table = agreement(reference, results, METRICS)
        write_text(path / "agreement.csv", table.to_csv())
        write_run(path, {"study": {"name": "precision"}, **plan.describe()}, finished=True)
    print(table)


if __name__ == "__main__":
    command.run(main, FLAGS)
