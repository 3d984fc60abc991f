"""Annotations of saejax are checked while the tests run, and only then; programs are compiled once.

Files run in the order of their cost, the dearest first, so that all workers end together.
`python -m pytest --record-costs` writes down anew what each file of that run cost.
"""

import json
import os
from collections import Counter
from itertools import count
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Little optimised code takes half the time to compile, which is what tests of tiny shapes wait for;
# without the newer fusions, and in one piece instead of one a core, half of the rest again.
# Commands that tests start in processes of their own do so too, and round alike.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
# All workers, the processes they start and the next session share what one of them has compiled.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import jaxtyping
import pytest

jaxtyping.install_import_hook("saejax", "helpers.typechecker.check")

COSTS = Path(__file__).parent / "costs.json"
# Programs of code that has changed are not used again: past this size the oldest go.
MOST_BYTES = 2**30
FILES_DONE = count(1)


@pytest.fixture
def unchecked():
    """Users have no beartype in the way: what it would refuse must reach the library's own
    checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def optimised():
    """A module's programs are compiled as users' are."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module", autouse=True)
def memory_of_a_laptop():
    """Every tenth file lets go of all programs, or a worker would come to hold 6 GB of them."""
    yield
    if next(FILES_DONE) % 10 == 0:
        from saejax.core import programs  # after the hook above, and when JAX has been set up

        programs._jitted.cache_clear()
        jax.clear_caches()


# ------------------------------------------------------------------------ the cache, costs of files


def pytest_addoption(parser):
    parser.addoption(
        "--record-costs", action="store_true", help="write the seconds of each file to costs.json"
    )


def pytest_configure(config):
    if is_worker(config):
        return
    size = 0
    programs = Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).glob("*-cache")
    for program in sorted(programs, key=lambda p: p.stat().st_mtime, reverse=True):
        size += program.stat().st_size
        if size > MOST_BYTES:
            program.unlink(missing_ok=True)
    if config.getoption("record_costs"):
        config.pluginmanager.register(Costs(config.rootpath))


def pytest_collection_modifyitems(config, items):
    """Workers get the dearest files first, and among them those that nobody has measured."""
    if is_worker(config):
        costs = json.loads(COSTS.read_text())
        place = {path: n for n, path in enumerate(sorted(costs, key=costs.get, reverse=True))}
        items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], -1))


def is_worker(config):
    return hasattr(config, "workerinput")


class Costs:
    """What the tests of each file took, fixtures included."""

    def __init__(self, root):
        self.root, self.seconds = root, Counter()

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid.partition("::")[0]] += report.duration

    def pytest_sessionfinish(self):
        before = json.loads(COSTS.read_text())
        both = before | {path: round(seconds, 1) for path, seconds in self.seconds.items()}
        left = {path: both[path] for path in sorted(both) if (self.root / path).exists()}
        COSTS.write_text(json.dumps(left, indent=0) + "\n")
