"""A training step of one group by itself, beside which compiled runs are held."""

from functools import partial

from saejax import ReLU
from saejax.training.plan import Group, Program
from saejax.training.step import step_group


def plain_step(settings, cell_batch, architecture=None):
    """`step_group` of a run of these settings on one device."""
    program = Program(None, {}, settings, (), None, {})
    return partial(step_group, program, Group(architecture or ReLU(), 0, 0, cell_batch))
