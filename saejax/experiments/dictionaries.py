"""The stage of a study in which dictionaries are trained on a store of activations."""

from pathlib import Path

import numpy as np
from absl import flags

from saejax import runlog
from saejax.data.activations import StoreSource
from saejax.data.store import Store
from saejax.differences import differences
from saejax.experiments import language
from saejax.plan import make_plan
from saejax.result import Result
from saejax.settings import Settings
from saejax.sweep import Sweep
from saejax.train import train


def define(own: flags.FlagValues) -> None:
    """The flags of the stage besides those of every sweep."""
    flags.DEFINE_string(
        "dictionaries", None, "Folder of the trained dictionaries, made where it is absent. Default: "
        "dictionaries in the workdir.", flag_values=own,
    )  # fmt: skip
    flags.DEFINE_integer("batch_size", 512, "Activations in a batch.", flag_values=own)
    flags.DEFINE_integer("eval_batches", 16, "Held-out batches in an evaluation.", flag_values=own)
    flags.DEFINE_float("held_out", 0.02, "Share of the activations never trained on.", flag_values=own)


def check_held_out(own: flags.FlagValues, settings: Settings) -> None:
    """Refuses a share of held-out rows that leaves too few to evaluate on.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    if not 0 <= own.held_out < 1:
        raise ValueError(f"held_out: got {own.held_out}, allowed: a share from 0 to below 1")
    held_out, needed = round(own.held_out * own.rows), settings.eval_batches * settings.batch_size
    if held_out < needed:
        raise ValueError(
            f"held_out: got {own.held_out}, which holds out {held_out} of rows={own.rows}; allowed: "
            f"{needed} or more, for eval_batches={settings.eval_batches} of "
            f"batch_size={settings.batch_size}"
        )


def check_fit(d_in: int, sweep: Sweep, settings: Settings) -> None:
    """Refuses, before there are activations, a sweep that could not be trained on them.

    Raises:
        ValueError: as `saejax.plan.make_plan`.
    """
    make_plan(sweep, np.zeros((1, d_in), np.float32), settings)


def trained(
    stages: language.Stages, folder: Path, store: Store, held_out: float, sweep: Sweep,
    settings: Settings,
) -> Result:  # fmt: skip
    """The trained dictionaries, or those of an earlier run.

    Raises:
        ValueError: for a folder of other settings or another store, and one whose training was
            interrupted.
    """
    data = {"activations": StoreSource(store, held_out)}
    reused = (folder / "run.json").exists()
    with stages.stage("dictionaries", folder, reused) as remarks:
        if not reused:
            result = train(sweep, data, settings, workdir=folder)
        else:
            plan, run = make_plan(sweep, data, settings).describe(), runlog.read_run(folder)
            if not run["finished"]:
                raise ValueError(
                    f"dictionaries: got {str(folder)!r}, whose training was interrupted; allowed: a "
                    "finished sweep, or a new folder (--dictionaries=NEW) to train it again"
                )
            names = ("coords", "d_sae", "settings", "data")
            different = differences({n: plan[n] for n in names}, {n: run[n] for n in names})
            language.refuse("dictionaries", folder, different)
            result = runlog.load(folder)
        remarks.append(f"{result.final['frozen_at'].size} dictionaries, {settings.steps:,} steps")
    return result
