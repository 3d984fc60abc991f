"""The start of a command: joining other processes, and keeping compiled programs."""

import os
from pathlib import Path
from typing import Any

import jax
from absl import flags

from saejax.experiments.common.flagtable import define

CACHE = "~/.cache/saejax"
# Programs that were not used for longest go first.
CACHE_BYTES = 2 * 2**30


def define_cache(own: flags.FlagValues) -> None:
    """The flag of compiled programs that are kept for the next run."""
    text = (
        "Folder of compiled programs, which the next run of the same "
        "shapes does not compile again; empty: none. JAX_COMPILATION_CACHE_DIR goes before it."
    )
    define(own, str, compilation_cache=(CACHE, text))


def define_distributed(own: flags.FlagValues) -> None:
    """The flags of several processes that train one sweep together."""
    text = (
        "Train together with other processes of the same command, which must all "
        "see the workdir. On SLURM, a TPU slice and with Open MPI they find each other."
    )
    define(own, bool, distributed=(False, text))
    define(own, str, coordinator=(None, "HOST:PORT of the first process, where they do not."))
    define(
        own,
        int,
        num_processes=(None, "How many there are."),
        process_id=(None, "Which one this is."),
    )


def begin(own: flags.FlagValues) -> None:
    """Before the first array: joins the other processes, and opens the cache of compiled programs.

    A CPU counts as a device for each of its cores, unless JAX was told otherwise: cells that train
    side by side, a thread each, wait less for one another than the threads of one product do
    (experiments/docs/pages/notes/speed.md).

    Raises:
        ValueError: for flags of several processes without `--distributed`, and where the processes
            do not find each other.
    """
    if "distributed" in own:
        _join(own)
    told = "--xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not told and jax.config.values["jax_num_cpu_devices"] < 1:
        jax.config.update("jax_num_cpu_devices", _cores())
    cache: Any = own["compilation_cache"].value if "compilation_cache" in own else None
    if cache and not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(Path(cache).expanduser()))
        # A sweep is many small programs, which JAX would not find worth keeping.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        jax.config.update("jax_compilation_cache_max_size", CACHE_BYTES)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _join(own: flags.FlagValues) -> None:
    names = "coordinator", "num_processes", "process_id"
    given = {name: own[name].value for name in names if own[name].value is not None}
    if not own["distributed"].value:
        if given:
            name, value = next(iter(given.items()))
            raise ValueError(f"{name}: got {value!r}, allowed: only with --distributed")
        return
    if given and len(given) < len(names):
        missing = next(name for name in names if name not in given)
        raise ValueError(
            f"{missing}: got nothing, allowed: a value, as {next(iter(given))} has one"
        )
    try:
        first, total, mine = (given.get(name) for name in names)
        jax.distributed.initialize(first, total, mine)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"distributed: got True, but the processes do not find each other: {error}; allowed: "
            "on SLURM, a TPU slice or with Open MPI, or with coordinator, num_processes and "
            "process_id"
        ) from None


def first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0
