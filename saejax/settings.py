"""How a sweep is trained and measured: everything that all of its cells share."""

from dataclasses import dataclass, field
from numbers import Integral

from saejax.precision import PRECISIONS, Precision
from saejax.resample import Resample
from saejax.sae import SAEConfig


@dataclass(frozen=True)
class Settings:
    """Training and evaluation settings. Defaults are the published values of the grid study.

    Args:
        steps: training steps, each on a fresh batch (the posts call them epochs).
        batch_size: samples in a batch.
        eval_every: steps between evaluations, and the length of one compiled chunk.
        eval_batches: fresh batches that an evaluation measures on.
        sae: what is fixed about the SAEs.
        resample: when dead latents are revived; only in cells whose `resample` coordinate is on.
        dead_threshold: a latent that never exceeds it on the evaluation batches counts as dead.
        track_threshold: cosine from which a true feature counts as learned.
        matmul_precision: operands of the training products, see `saejax.precision.matmul`.
        cell_batch: how many cells of a width group are trained side by side; None chooses 1 on a
            CPU and as many as fit on an accelerator. Changes speed and memory, not results.

    Raises:
        ValueError: naming the argument, the value got and what is allowed.
    """

    steps: int = 30_000
    batch_size: int = 4096
    eval_every: int = 1000
    eval_batches: int = 10
    sae: SAEConfig = field(default_factory=SAEConfig)
    resample: Resample = field(default_factory=Resample)
    dead_threshold: float = 0.0
    track_threshold: float = 0.9
    matmul_precision: Precision = "highest"
    cell_batch: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_every", "eval_batches"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name}: got {value}, allowed: a whole number, 1 or more")
        if self.steps % self.eval_every:
            raise ValueError(
                f"steps: got {self.steps}, allowed: a multiple of eval_every={self.eval_every}"
            )
        if self.matmul_precision not in PRECISIONS:
            raise ValueError(
                f"matmul_precision: got {self.matmul_precision!r}, allowed: {', '.join(PRECISIONS)}"
            )
        if self.cell_batch is not None and (
            not isinstance(self.cell_batch, Integral) or self.cell_batch < 1
        ):
            raise ValueError(f"cell_batch: got {self.cell_batch}, allowed: a whole number, 1 or more")
        if not self.dead_threshold >= 0:
            raise ValueError(f"dead_threshold: got {self.dead_threshold}, allowed: 0 or more")
        if not 0 < self.track_threshold <= 1:
            raise ValueError(f"track_threshold: got {self.track_threshold}, allowed: above 0, up to 1")
