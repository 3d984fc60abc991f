"""What `import saejax` costs beside `import jax, optax`, each in a process of its own."""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

from saejax.core.table import Table

STATEMENTS = ("import jax, optax", "import saejax")


def cost(turns: int) -> Table:
    """CPU seconds of both imports in turns, and the ratio of their medians.

    Args:
        turns: processes of each.
    """
    seconds: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for _ in range(turns):
        for statement, each in zip(STATEMENTS, _each(), strict=True):
            seconds[statement].append(each)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    alone = medians[STATEMENTS[0]]
    return Table(
        {"statement": n, "CPU seconds": median, "times jax and optax": median / alone}
        for n, median in medians.items()
    )


def _each() -> Iterator[float]:
    for statement in STATEMENTS:
        before = os.times()
        subprocess.run([sys.executable, "-c", statement], check=True)
        after = os.times()
        user, system = after.children_user, after.children_system
        yield user + system - before.children_user - before.children_system
