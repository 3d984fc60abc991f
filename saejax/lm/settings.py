"""How a language model is trained: everything but its shape and its text."""

from dataclasses import dataclass

from saejax.core.checks import ABOVE_0, BELOW_1, FROM_0, check_number_fields, check_whole_fields


@dataclass(frozen=True)
class LMSettings:
    """Settings of the training. The defaults are nanoGPT's but for the length of the run.

    Args:
        steps: training steps.
        batch_size: windows in a step, each of `context` tokens and the one behind them.
        lr: highest learning rate, reached at the end of the warm-up.
        warmup_steps: steps of the linear rise from 0.
        lr_end_share: the cosine falls to this share of `lr` at the last step.
        weight_decay: of matrices and embeddings; biases and LayerNorm are left alone.
        beta1: decay of the mean of the gradient.
        beta2: decay of the mean of its square.
        grad_clip: highest norm of the gradient over all weights.
        eval_every: steps between evaluations, and the length of one compiled chunk.
        eval_windows: validation windows of an evaluation, spread evenly over the tokens.
        seed: of the weights and the windows.
    """

    steps: int = 4000
    batch_size: int = 32
    lr: float = 1e-3
    warmup_steps: int = 100
    lr_end_share: float = 0.1
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    grad_clip: float = 1.0
    eval_every: int = 200
    eval_windows: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        positive = dict.fromkeys(("steps", "batch_size", "eval_every", "eval_windows"), 1)
        check_whole_fields(self, positive | {"warmup_steps": 0, "seed": 0})
        share = ("0 to 1 (a number)", lambda v: 0 <= v <= 1)
        rules = {"lr": ABOVE_0, "lr_end_share": share, "weight_decay": FROM_0}
        rules |= {"beta1": BELOW_1, "beta2": BELOW_1, "grad_clip": ABOVE_0}
        check_number_fields(self, [(name, *rule) for name, rule in rules.items()])
        if self.steps % self.eval_every:
            raise ValueError(
                f"eval_every: got {self.eval_every}, allowed: a divisor of steps={self.steps}"
            )
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps: got {self.warmup_steps}, allowed: fewer than steps={self.steps}"
            )
