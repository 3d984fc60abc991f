"""Pictures: arrays in, matplotlib Figures out; no paths, no global state."""

from saejax.plots.architectures import Line, at_sparsity
from saejax.plots.bars import distribution, frequencies
from saejax.plots.baselines import Box, boxes, maps, representedness
from saejax.plots.space import features, film, film_steps, samples
from saejax.plots.sweep import (
    beside_published,
    curves,
    frontier,
    heatmaps,
    mean_and_spread,
    title_of,
)
from saejax.plots.tokens import against_l1, own_rates, responses

__all__ = [
    "Box",
    "Line",
    "against_l1",
    "at_sparsity",
    "beside_published",
    "boxes",
    "curves",
    "distribution",
    "features",
    "film",
    "film_steps",
    "frequencies",
    "frontier",
    "heatmaps",
    "maps",
    "mean_and_spread",
    "own_rates",
    "representedness",
    "responses",
    "samples",
    "title_of",
]
