"""The stage of a study in which dictionaries are trained on a store of activations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from jaxtyping import Float

from saejax.data.store.manifest import DTYPES
from saejax.data.store.reader import Store
from saejax.data.store.source import StoreSource
from saejax.experiments.common import command, process, study
from saejax.experiments.common.flagtable import define as define_flags
from saejax.experiments.common.stages import Stages
from saejax.results import workdir
from saejax.results.result import Result
from saejax.sae.params import SAEConfig
from saejax.training.loop import check_saving, train
from saejax.training.plan import Plan
from saejax.training.planning import make_plan
from saejax.training.settings import Settings
from saejax.training.sweep import Sweep


def define(own: flags.FlagValues) -> None:
    """The flags of the stage besides those of every sweep."""
    folder = (
        "Folder of the trained dictionaries, made where it is absent. Default: "
        "dictionaries in the workdir."
    )
    define_flags(own, str, dictionaries=(None, folder))
    batch_size, eval_batches = "Activations in a batch.", "Held-out batches in an evaluation."
    define_flags(own, int, batch_size=(512, batch_size), eval_batches=(16, eval_batches))
    define_flags(own, float, held_out=(0.02, "Share of the activations never trained on."))
    process.define_cache(own)


def settings(own: flags.FlagValues, **others: Any) -> Settings:
    """The settings of the sweep that the flags describe; `others` as in `study.settings`.

    Raises:
        ValueError: naming the flag, as for a share of held-out rows too small to evaluate on.
    """
    sae = SAEConfig(l1_reduction="sum", use_b_dec=True, init="tied")
    training = study.settings(own, sae=sae, **others)
    if not 0 <= own.held_out < 1:
        raise ValueError(f"held_out: got {own.held_out}, allowed: a share from 0 to below 1")
    held_out, needed = round(own.held_out * own.rows), own.eval_batches * own.batch_size
    if held_out < needed:
        raise ValueError(
            f"held_out: got {own.held_out}, which holds out {held_out} of rows={own.rows}; "
            f"allowed: {needed} or more, for eval_batches={own.eval_batches} of "
            f"batch_size={own.batch_size}"
        )
    return training


@dataclass(frozen=True)
class Promised:
    """A store that an earlier stage has yet to make: its shapes, for a plan."""

    d_in: int
    dtype: str
    n_features: None = None

    def feed(
        self, seed: int, step: int, n_steps: int, batch_size: int
    ) -> Float[np.ndarray, "n_steps batch d_in"]:
        return self._numbers(n_steps, batch_size)

    def evaluation(
        self, n_batches: int, batch_size: int
    ) -> Float[np.ndarray, "n_batches batch d_in"]:
        return self._numbers(n_batches, batch_size)

    def mean(self) -> Float[np.ndarray, " d_in"]:
        return np.zeros(self.d_in)

    def describe(self) -> dict[str, Any]:
        return {"type": "store", "d_in": self.d_in, "dtype": self.dtype}

    def _numbers(self, *n: int) -> Float[np.ndarray, "n batch d_in"]:
        block = np.random.default_rng(0).normal(size=(256, self.d_in)).astype(DTYPES[self.dtype][0])
        return np.resize(block, (*n, self.d_in))


def planned(own: flags.FlagValues, d_in: int, sweep: Sweep, settings: Settings) -> Plan:
    """The plan of a sweep before there are activations.

    Raises:
        ValueError: as `saejax.training.planning.make_plan`, for a sweep that could not be trained
            on them, and for flags that say when it is saved.
    """
    check_saving(**command.saving(own), settings=settings)
    return make_plan(sweep, {"activations": Promised(d_in, own.store_dtype)}, settings)


def trained(
    own: flags.FlagValues,
    stages: Stages,
    folder: Path,
    store: Store,
    sweep: Sweep,
    settings: Settings,
) -> Result:
    """The dictionaries: trained now, those of an earlier run, or of one that goes on.

    Raises:
        ValueError: for a folder of other settings or another store.
    """
    data = {"activations": StoreSource(store, own.held_out)}
    reused = (folder / "run.json").exists() and workdir.read_run(folder)["finished"]
    with (
        stages.stage("dictionaries", folder, reused) as remarks,
        command.flag_names(workdir="dictionaries"),
    ):
        result = train(sweep, data, settings, workdir=folder, **command.beside(own))
        remarks.append(f"{result.final['frozen_at'].size} dictionaries, {settings.steps:,} steps")
    return result
