"""Reading ahead: a thread prepares the batches of the next chunk while one is trained on."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from saejax.core.checks import check_whole
from saejax.core.devices import spread
from saejax.data.host import Fed, HostSource

A = TypeVar("A")
B = TypeVar("B")


def prefetch(
    function: Callable[[A], B], items: Iterable[A], ahead: int = 2
) -> Generator[B, None, None]:
    """`map(function, items)`, computed up to `ahead` items early by a thread.

    What the function raises is raised here, at the item's turn. The thread ends with the iterator,
    whether that is run to its end, closed or dropped. Items may be endless.
    """
    ahead = check_whole("ahead", ahead, "1 or more (a whole number)", lambda v: v >= 1)

    def results() -> Generator[B, None, None]:
        waiting: deque[Future[B]] = deque()
        with ThreadPoolExecutor(1, "prefetch") as thread:
            try:
                for item in items:
                    waiting.append(thread.submit(function, item))
                    if len(waiting) > ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for result in waiting:
                    result.cancel()

    return results()


def feeds(
    sources: Mapping[str, HostSource],
    seeds: Sequence[int],
    steps: range,
    n_batches: int,
    batch_size: int,
    mesh: Mesh | None = None,
) -> Generator[dict[str, Fed], None, None]:
    """Inputs of one chunk after another on the device; while one is trained on, the next is read.

    A chunk's batches are `len(seeds) * steps.step * batch_size * d_in` numbers for each source. Two
    chunks lie on the device at once, and a third may be on its way. `steps` are the numbers of
    steps done before each chunk, `n_batches` the evaluation batches. A ValueError comes at the
    first item, for sizes that a source refuses.
    """
    held_out = {
        name: spread(mesh, source.evaluation(n_batches, batch_size), P(None, "batch"))
        for name, source in sources.items()
    }

    def one(name: str, step: int) -> Fed:
        of_seeds = [sources[name].feed(seed, step, steps.step, batch_size) for seed in seeds]
        batches = np.stack(of_seeds) if len(of_seeds) > 1 else of_seeds[0][None]
        on_devices = spread(mesh, batches, P(None, None, "batch"))
        return Fed(spread(mesh, np.int32(step)), on_devices, held_out[name])

    yield from prefetch(lambda step: {name: one(name, step) for name in sources}, steps, ahead=1)
