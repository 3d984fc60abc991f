"""Pictures: arrays in, matplotlib Figures out; no paths, no global state."""

from saejax.results.plots.architectures import Line, at_sparsity
from saejax.results.plots.sweep import beside_published, curves, frontier, heatmaps, title_of

__all__ = ["Line", "at_sparsity", "beside_published", "curves", "frontier", "heatmaps", "title_of"]
