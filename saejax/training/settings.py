"""How a sweep is trained and measured: everything that all of its cells share."""

from dataclasses import dataclass, field

from saejax.core.checks import check_number_fields, check_whole
from saejax.core.precision import PRECISIONS, Precision
from saejax.sae.params import SAEConfig
from saejax.sae.revival import Resample


@dataclass(frozen=True)
class Settings:
    """Training and evaluation settings. Defaults are the published values of the grid study.

    Args:
        steps: training steps, each on a fresh batch (the posts call them epochs).
        batch_size: samples in a batch.
        eval_every: steps between evaluations, and the length of one compiled chunk.
        eval_batches: fresh batches that an evaluation measures on.
        snapshot_every: steps between snapshots of every dictionary; 0 takes none. They stay in
            memory until the run ends.
        sae: what is fixed about the SAEs.
        resample: when dead latents are revived; how is the cells' coordinate `resample`.
        dead_threshold: a latent that never exceeds it on the evaluation batches counts as dead.
        track_threshold: cosine from which a true feature counts as learned.
        matmul_precision: operands of the training products, see `saejax.core.precision.matmul`.
        cell_batch: how many cells of a width group are trained side by side; None chooses 1 on a
            CPU and as many as fit on an accelerator. Changes speed and memory, not results.

    Raises:
        ValueError: naming the argument, the value got and what is allowed.
    """

    steps: int = 30_000
    batch_size: int = 4096
    eval_every: int = 1000
    eval_batches: int = 10
    snapshot_every: int = 0
    sae: SAEConfig = field(default_factory=SAEConfig)
    resample: Resample = field(default_factory=Resample)
    dead_threshold: float = 0.0
    track_threshold: float = 0.9
    matmul_precision: Precision = "highest"
    cell_batch: int | None = None

    def __post_init__(self) -> None:
        positive = "a whole number, 1 or more"
        for name in ("steps", "batch_size", "eval_every", "eval_batches"):
            value = check_whole(name, getattr(self, name), positive, lambda v: v >= 1)
            object.__setattr__(self, name, value)
        never = "0 (never) or more (a whole number)"
        every = check_whole("snapshot_every", self.snapshot_every, never, lambda v: v >= 0)
        object.__setattr__(self, "snapshot_every", every)
        if every and self.eval_every % every:
            raise ValueError(
                f"snapshot_every: got {every}, allowed: 0, or a divisor of "
                f"eval_every={self.eval_every}"
            )
        if self.steps % self.eval_every:
            raise ValueError(
                f"steps: got {self.steps}, allowed: a multiple of eval_every={self.eval_every}"
            )
        if self.matmul_precision not in PRECISIONS:
            raise ValueError(
                f"matmul_precision: got {self.matmul_precision!r}, allowed: {', '.join(PRECISIONS)}"
            )
        if self.cell_batch is not None:
            cells = check_whole("cell_batch", self.cell_batch, positive, lambda v: v >= 1)
            object.__setattr__(self, "cell_batch", cells)
        check_number_fields(
            self,
            (
                ("dead_threshold", "0 or more (a number)", lambda v: v >= 0),
                ("track_threshold", "above 0, up to 1 (a number)", lambda v: 0 < v <= 1),
            ),
        )
        if not isinstance(self.sae, SAEConfig):
            raise ValueError(f"sae: got {self.sae!r}, allowed: a SAEConfig")
        if not isinstance(self.resample, Resample):
            raise ValueError(f"resample: got {self.resample!r}, allowed: a Resample")
