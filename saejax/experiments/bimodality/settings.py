"""How dictionaries are compared: everything that the analysis chooses."""

from dataclasses import dataclass

from saejax.core.checks import check_number_fields, check_whole_fields
from saejax.core.stats import LEVEL, N_BOOT


@dataclass(frozen=True)
class AnalysisSettings:
    """Settings of the bimodality analysis. The cutoff and the random sets are the text's.

    Args:
        cutoff: MCS from it on is high, below it low.
        n_random: number of random sets that learned MCS are compared with.
        eval_windows: windows of the validation text on which latents are measured.
        n_ablated: latents of each dictionary, drawn at random, that are ablated one by one; 0 for
            none.
        ablation_windows: windows in which each of them is ablated, at most.
        rare_below: share of the evaluation tokens below which a latent that fires is rare.
        n_boot: number of resamples of every interval.
        level: of the intervals.
        seed: of all that is drawn.

    Raises:
        ValueError: naming the argument, the value got and what is allowed.
    """

    cutoff: float = 0.5
    n_random: int = 4
    eval_windows: int = 512
    n_ablated: int = 64
    ablation_windows: int = 4
    rare_below: float = 1e-3
    n_boot: int = N_BOOT
    level: float = LEVEL
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole_fields(
            self,
            {
                "n_random": 1,
                "eval_windows": 1,
                "n_ablated": 0,
                "ablation_windows": 1,
                "n_boot": 1,
                "seed": 0,
            },
        )
        check_number_fields(
            self,
            (
                ("cutoff", "above -1, up to 1 (a number)", lambda v: -1 < v <= 1),
                ("rare_below", "above 0, up to 1 (a number)", lambda v: 0 < v <= 1),
                ("level", "above 0, below 1 (a number)", lambda v: 0 < v < 1),
            ),
        )
