"""How the cells of a sweep are spread over devices: a mesh over sources, hypers and the batch.

Every device holds whole cells and trains them by itself. Where there are more devices than cells
can be dealt to, the samples of each batch are divided as well, and gradients are averaged over
those that share a cell. Nothing is padded: each axis of the mesh divides what it is laid over.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXES = ("source", "hyper", "batch")
CELLS, SOURCES, HYPERS, EVERYWHERE = P("source", "hyper"), P("source"), P("hyper"), P()
TRAINING, EVALUATION = P("source", "batch"), P("source", None, "batch")
RATIOS, TAKEN = P("source", None, "hyper"), P(None, "source", "hyper")


class Layout(NamedTuple):
    """Number of devices along each axis of the mesh."""

    source: int = 1
    hyper: int = 1
    batch: int = 1

    @property
    def n_devices(self) -> int:
        """Devices in the mesh."""
        return self.source * self.hyper * self.batch


def choose_layout(n_devices: int, n_source: int, n_hyper: int, batch_size: int) -> Layout:
    """The layout that uses most devices; of these, the one that divides batches least.

    Dividing a batch costs an exchange of gradients in each step, dividing cells costs nothing.
    Sources are divided before hypers, because the hypers of a source share its batches.
    """

    def divisors(n: int) -> list[int]:
        return [k for k in range(1, min(n, n_devices) + 1) if n % k == 0]

    layouts = [
        Layout(s, h, b)
        for s in divisors(n_source)
        for h in divisors(n_hyper)
        for b in divisors(batch_size)
        if s * h * b <= n_devices
    ]
    return max(layouts, key=lambda layout: (layout.n_devices, -layout.batch, layout.source))


def make_mesh(layout: Layout) -> Mesh | None:
    """The mesh of a layout over the first devices of all processes; None for a single device."""
    if layout.n_devices == 1 and jax.process_count() == 1:
        return None
    return Mesh(np.array(jax.devices()[: layout.n_devices]).reshape(layout), AXES)


def sharding(mesh: Mesh | None, spec: P) -> NamedSharding | None:
    """Where an array lies; None, which leaves it to JAX, without a mesh."""
    return None if mesh is None else NamedSharding(mesh, spec)


def each_device(mesh: Mesh | None, f: Callable, in_specs: Any, out_specs: Any) -> Callable:
    """`f` mapped over devices, each with its own part of the arrays; `f` itself without a mesh.

    `in_specs` and `out_specs` say how the arguments and results are divided.
    """
    if mesh is None:
        return f
    # Whether results agree on devices that hold the same cells is not checked by JAX (it knows no
    # rule for gradients that are written out by hand) but by the tests.
    return jax.shard_map(f, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def everywhere(mesh: Mesh | None, tree: Any) -> Any:
    """Values that every device computes whole, inside a program.

    Left to itself the compiler divides their computation and exchanges the parts. That takes longer
    than drawing a batch, and can lock up: devices of one CPU share threads, and an exchange holds
    some of them.
    """
    whole = sharding(mesh, EVERYWHERE)
    return tree if whole is None else jax.lax.with_sharding_constraint(tree, whole)


def batch_axis(mesh: Mesh | None) -> str | None:
    """The axis over which samples of a batch are divided, None where they are not."""
    return None if mesh is None or mesh.shape["batch"] == 1 else "batch"


def over(axis: str | None, combine: Callable[[Any, str], Any], tree: Any) -> Any:
    """Values combined over the devices of an axis, as `jax.lax.psum` does; as they are for None."""
    return tree if axis is None else combine(tree, axis)


def spread(mesh: Mesh | None, tree: Any, spec: P = EVERYWHERE) -> Any:
    """Arrays of the host, the same in every process, on the devices of the mesh."""
    layout = sharding(mesh, spec)
    if layout is None:
        return jax.tree.map(jax.device_put, tree)

    def one(a: Any) -> jax.Array:
        a = np.asarray(a)
        return jax.make_array_from_callback(a.shape, layout, lambda index: a[index])

    return jax.tree.map(one, tree)


def together(name: str) -> None:
    """Waits until every process of the run has called this with the same name."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def to_host(tree: Any) -> Any:
    """Arrays of all devices as whole NumPy arrays; every process must call it."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    def one(a: Any) -> np.ndarray:
        whole = not isinstance(a, jax.Array) or a.is_fully_addressable or a.is_fully_replicated
        return np.asarray(a if whole else multihost_utils.process_allgather(a, tiled=True))

    return jax.tree.map(one, tree)
