"""Trackers: where a sweep can be watched while it trains, beside `metrics.jsonl`."""

from saejax.trackers.choice import as_trackers
from saejax.trackers.guard import Tracking
from saejax.trackers.interface import Tracker
from saejax.trackers.tensorboard import TensorBoard
from saejax.trackers.wandb import WandB

__all__ = ["TensorBoard", "Tracker", "Tracking", "WandB", "as_trackers"]
