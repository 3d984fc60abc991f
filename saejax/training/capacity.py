"""What fits into a device's memory: how many cells side by side, and whether a run at all."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from saejax.training.memory import Sizes, estimate_sizes, gigabytes, n_blocks, sizes_of
from saejax.training.plan import Plan

# Share of an accelerator's memory that `default_cell_batches` leaves free: the estimate's error.
SAFETY = 0.15
# Taken for an accelerator's memory where it does not say.
UNKNOWN = 8 * 2**30
# Where Linux says how much memory a container or batch job may have.
CGROUP = "/sys/fs/cgroup/memory.max"


def device_memory() -> int | None:
    """Bytes that one accelerator has, or a CPU with all its devices; None where nobody says.

    Of several processes it is the least that any of them has, so that all choose and refuse alike.
    """
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        found = _machine_memory()
    else:
        found = (device.memory_stats() or {}).get("bytes_limit")
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        megabytes = multihost_utils.process_allgather(np.int32((found or 0) >> 20))
        found = int(megabytes.min()) << 20 or None
    return found


def _machine_memory() -> int | None:
    """What the machine has, or the control group that this process is in, where that is less."""
    if not hasattr(os, "sysconf"):
        return None
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        text = Path(CGROUP).read_text(encoding="ascii").strip()
    except OSError:
        return whole
    return min(whole, int(text)) if text.isdecimal() else whole


def default_cell_batches(plan: Plan) -> tuple[int, ...]:
    """Cells of each width group that train side by side: 1 on a CPU, else as many as fit.

    Narrow groups choose first, because they gain most. Of all numbers that make equally many blocks
    it is the smallest: six cells in two blocks are three at a time, though four might fit.

    Args:
        plan: of the run; its `cell_batches` are not read.
    """
    at = sizes_of(plan)
    chosen = (1,) * len(at.groups)
    if at.on_cpu:
        return chosen
    room = (1 - SAFETY) * (device_memory() or UNKNOWN)
    for i in sorted(range(len(chosen)), key=lambda i: at.groups[i].d_sae):
        own = at.groups[i]
        n = own.n_hyper
        sides = [*range(1, n), *range(n, at.n_source * n + 1, n)]
        for k in sorted(sides, key=lambda k: (n_blocks(at, own._replace(cell_batch=k)), k)):
            tried = (*chosen[:i], k, *chosen[i + 1 :])
            if estimate_sizes(at.with_cell_batches(tried)).total <= room:
                chosen = tried
                break
    return chosen


def check_fits(plan: Plan) -> None:
    """Refuses a run that its device has no memory for.

    Args:
        plan: of the run.

    Raises:
        ValueError: naming the setting that alone would make it fit, the value got and those
            allowed.
    """
    sizes, limit = sizes_of(plan), device_memory()
    if limit is None:
        return
    estimated = estimate_sizes(sizes)
    needed, program = estimated.total, estimated.program
    if sizes.on_cpu:
        # Its devices share the memory, and the compiler and what it made.
        limit = (limit - program) // plan.layout.n_devices + program
    if needed <= limit:
        return
    kind = jax.local_devices()[0].device_kind
    name, got, allowed = next(_remedies(plan, sizes, limit))
    raise ValueError(
        f"{name}: got {got}, which needs {gigabytes(needed)} on {kind} of {gigabytes(limit)}; "
        f"allowed: {allowed}"
    )


def _remedies(plan: Plan, at: Sizes, limit: int) -> Iterator[tuple[str, Any, str]]:
    """Settings that would each make the run fit by themselves, with the value got and those
    allowed."""

    def fits(**changes: Any) -> bool:
        return estimate_sizes(replace(at, **changes)).total <= limit

    s = at.settings
    widest = max(group.cell_batch for group in at.groups)

    def narrowed(k: int) -> bool:
        return fits(groups=at.with_cell_batches([min(k, g.cell_batch) for g in at.groups]).groups)

    if found := _largest(widest - 1, narrowed):
        yield "cell_batch", widest, f"up to {found}"
    if s.snapshot_every and fits(settings=replace(s, snapshot_every=0)):
        yield "snapshot_every", s.snapshot_every, "0 (none), or fewer steps"
    chunks = [n for n in range(1, s.eval_every) if s.steps % n == 0 and not s.snapshot_every]
    fitting = [n for n in chunks if at.fed and fits(settings=replace(s, eval_every=n))]
    if fitting:
        yield "eval_every", s.eval_every, f"a divisor of steps={s.steps} up to {max(fitting)}"
    # The devices that share a batch share what is left of it.
    shared = s.batch_size // at.batch_size
    if found := _largest(at.batch_size - 1, lambda b: fits(batch_size=b)):
        yield "batch_size", s.batch_size, f"up to {shared * found}"
    ratios = sorted(plan.sweep.ratio)
    by_ratio = sorted({group.d_sae for group in at.groups})
    for n in range(len(ratios) - 1, 0, -1):
        if fits(groups=tuple(group for group in at.groups if group.d_sae <= by_ratio[n - 1])):
            yield "ratio", ratios[-1], f"up to {ratios[n - 1]:g}"
            break
    single = tuple(group._replace(n_hyper=1) for group in at.groups)
    alone = estimate_sizes(replace(at, n_source=1, groups=single, n_seeds=1)).total
    yield (
        "l1, seeds, data sets",
        f"{at.of_all(lambda _: 1) // len(at.groups)} cells of each width on a device",
        f"fewer, or more devices; one takes {gigabytes(alone)}",
    )


def _largest(high: int, ok: Callable[[int], bool]) -> int:
    """The largest number from 1 to `high` that is ok, where all below it are; 0 for none."""
    low, found = 1, 0
    while low <= high:
        middle = (low + high) // 2
        if ok(middle):
            found, low = middle, middle + 1
        else:
            high = middle - 1
    return found
