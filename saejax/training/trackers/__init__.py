"""Trackers: where a sweep can be watched while it trains, beside `metrics.jsonl`."""

from saejax.training.trackers.choice import as_trackers
from saejax.training.trackers.guard import Tracking
from saejax.training.trackers.interface import Tracker
from saejax.training.trackers.tensorboard import TensorBoard
from saejax.training.trackers.wandb import WandB

__all__ = ["TensorBoard", "Tracker", "Tracking", "WandB", "as_trackers"]
