"""What is measured of latents, labelled and shown: everything that the study chooses."""

from dataclasses import dataclass

from saejax.core.checks import check_number_fields, check_whole_fields


@dataclass(frozen=True)
class InterpretSettings:
    """Settings of the analysis. The threshold and the numbers of labelled latents are the text's.

    Args:
        dead_threshold: a latent that is never above it on the sample is dead.
        sample_tokens: tokens of the store on which latents are measured, about.
        eval_windows: windows of validation text on which the loss recovered is measured.
        n_labelled: latents of highest and of lowest selectivity that are labelled, so many each.
        least_firings: a latent that fires less often is not judged.
        label_contexts: contexts that a labeller sees, at most, one of each sequence.
        before: tokens shown before an active one.
        after: tokens shown behind it.
        top_contexts: strongest contexts in the viewer.
        intervals: of activation, from which the viewer shows contexts too.
        interval_contexts: contexts of each of them.
        random_contexts: contexts of firings drawn at random.
        bins: of the histograms.
        related: latents shown as correlated and as neighbours; tokens at either end of the logits.

    Raises:
        ValueError: naming the argument, the value got and what is allowed.
    """

    dead_threshold: float = 0.07
    sample_tokens: int = 131_072
    eval_windows: int = 128
    n_labelled: int = 25
    least_firings: int = 10
    label_contexts: int = 20
    before: int = 12
    after: int = 8
    top_contexts: int = 20
    intervals: int = 5
    interval_contexts: int = 5
    random_contexts: int = 10
    bins: int = 30
    related: int = 10

    def __post_init__(self) -> None:
        check_whole_fields(
            self,
            {
                "sample_tokens": 1,
                "eval_windows": 1,
                "n_labelled": 1,
                "least_firings": 1,
                "label_contexts": 1,
                "before": 0,
                "after": 0,
                "top_contexts": 1,
                "intervals": 1,
                "interval_contexts": 1,
                "random_contexts": 1,
                "bins": 1,
                "related": 1,
            },
        )
        rule = "dead_threshold", "0 or more (a number)", lambda v: v >= 0
        check_number_fields(self, (rule,))
