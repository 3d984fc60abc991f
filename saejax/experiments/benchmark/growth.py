"""What grows, one number at a time, while the others stay: cells, width or seeds."""

from collections.abc import Iterator
from typing import NamedTuple

from saejax.experiments.benchmark.problem import Shape


class Point(NamedTuple):
    """One measurement of a series; `what` is a column of its row, `d_sae`, `cells` or `seeds`."""

    what: str
    shape: Shape
    seeds: int


class Growth(NamedTuple):
    """Series that start from one shape.

    Attributes:
        base: what is held fixed, but for the number that grows.
        cells: numbers of cells that share a batch.
        widths: values of d_sae.
        seeds: numbers of seeds, each with cells and batches of its own.
    """

    base: Shape
    cells: tuple[int, ...]
    widths: tuple[int, ...]
    seeds: tuple[int, ...]

    def points(self) -> Iterator[Point]:
        """All measurements, series by series."""
        for n in self.cells:
            yield Point("cells", self.base._replace(cells=n), 1)
        for n in self.widths:
            yield Point("d_sae", self.base._replace(d_sae=n), 1)
        for n in self.seeds:
            yield Point("seeds", self.base, n)
