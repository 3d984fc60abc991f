"""A tiny run for tests to interrupt, here or in a process of its own.

python tests/resumable.py WORKDIR [--signal_at STEP] [--kill_at STEP] [--pause SECONDS]
                                  [--every_way | --mixed] [--exchanges_nothing]
                                  [--coordinator HOST:PORT --process_id N]
"""

import argparse
import os
import re
import signal
import sys
import time
from dataclasses import replace

import jax

from saejax import Resample, SAEConfig, Settings, Sweep, Synthetic, train
from saejax.sae.registry import ReLU
from saejax.training import state as state_module
from saejax.training.resuming import Keeper

SWEEP = Sweep(l1=0.5, ratio=2, seeds=(0, 3), lr=0.05, resample=("off", "on"))
DATA = Synthetic("correlated", d_in=6, n_features=8, avg_active=2.0)
SETTINGS = Settings(
    steps=12,
    batch_size=16,
    eval_every=2,
    eval_batches=2,
    snapshot_every=2,
    sae=SAEConfig("sum", use_b_dec=True, init="tied"),
    resample=Resample(every=5, window=2),
    track_threshold=0.7,
)
# With all that is no plain mean over a batch.
EVERY_WAY = (
    Sweep(l1=0.5, ratio=2, seeds=(0, 3), lr=0.05, resample=ReLU.revivals),
    replace(SETTINGS, resample=Resample(every=5, window=2, ghost_after=2)),
)

# Of several architectures, with all that is no plain mean over a batch; two hypers each.
MIXED = (
    Sweep(
        l1=(0.5, 0.05),
        k=(1, 2),
        ratio=2,
        seeds=(0, 3),
        lr=0.05,
        resample={"relu": "on", "batchtopk": "auxk"},
        architecture=("relu", "batchtopk"),
    ),
    replace(SETTINGS, resample=Resample(every=5, window=2, aux_after=2)),
)


def run(workdir, data=DATA, settings=SETTINGS, sweep=SWEEP, **kwargs):
    """Trains it, with a checkpoint for each evaluation."""
    kwargs = {"checkpoint_every": settings.eval_every} | kwargs
    return train(sweep, data, settings, workdir=workdir, progress=False, **kwargs)


def after_chunk(act):
    """A `Keeper.chunk_done` that calls `act(step)` once it has saved."""
    plain = Keeper.chunk_done

    def chunk_done(self, progress):
        plain(self, progress)
        act(progress.done)

    return chunk_done


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("workdir")
    parser.add_argument("--signal_at", type=int)
    parser.add_argument("--kill_at", type=int)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--every_way", action="store_true")
    parser.add_argument("--mixed", action="store_true")
    parser.add_argument("--exchanges_nothing", action="store_true")
    parser.add_argument("--coordinator")
    parser.add_argument("--process_id", type=int)
    given = parser.parse_args()
    if given.coordinator:
        jax.distributed.initialize(given.coordinator, 2, given.process_id)

    def act(step):
        if step == given.signal_at:
            signal.raise_signal(signal.SIGTERM)
        if step == given.kill_at:  # while the checkpoint is being written
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(given.pause)

    def compile_chunk(plan, *held):
        compiled = state_module.compile_chunk(plan, *held)
        found = re.findall(r"all-\w+|collective-\w+|reduce-scatter", compiled.as_text())
        assert not found, f"devices exchange: {found}"
        return compiled

    if given.exchanges_nothing:
        sys.modules["saejax.training.loop"].compile_chunk = compile_chunk
    Keeper.chunk_done = after_chunk(act)
    sweep, settings = MIXED if given.mixed else EVERY_WAY if given.every_way else (SWEEP, SETTINGS)
    run(given.workdir, settings=settings, sweep=sweep)


if __name__ == "__main__":
    main()
