"""What the tests of the study commands share: parsing in this process, and a process of its own."""

import os
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

from absl import logging
from absl.testing import flagsaver

ROOT = Path(__file__).resolve().parents[2]
HERE = {"PYTHONPATH": str(ROOT)}


@contextmanager
def parsing(study):
    """A function that parses flags as the study's command would; puts everything back
    afterwards."""
    saved = warnings.formatwarning, logging.get_verbosity()
    before = flagsaver.save_flag_values(study.FLAGS)

    def parse_afresh(*arguments):
        study.FLAGS.unparse_flags()
        return study.FLAGS(
            [study.__name__.removesuffix(".__main__").rpartition(".")[2], *arguments]
        )

    try:
        yield parse_afresh
    finally:
        flagsaver.restore_flag_values(before, study.FLAGS)
        warnings.formatwarning = saved[0]
        logging.set_verbosity(saved[1])


def devices(n):
    """What makes a process have so many simulated devices, and compile as this one does."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={n}"
    return os.environ | {"XLA_FLAGS": flags}


def start(study, *arguments, environment=None, timeout=240):
    """A study's command in a process of its own, on a CPU, once it has ended."""
    return subprocess.run(
        [sys.executable, "-m", f"saejax.experiments.{study}", *arguments],
        cwd=ROOT,
        env=os.environ | HERE | (environment or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
