"""Settings of the interpretation: which latents are labelled, and what is shown of each."""

from dataclasses import dataclass, fields

from saejax.core.checks import check_number_fields, check_whole_fields


@dataclass(frozen=True)
class InterpretSettings:
    """Settings of the analysis; dead_threshold and n_labelled have the published text's values.

    Args:
        dead_threshold: a latent that is never above it on the sample is dead.
        sample_tokens: tokens of the store on which latents are measured, about.
        eval_windows: windows of validation text on which the loss recovered is measured.
        n_labelled: latents labelled at either end, highest and lowest selectivity.
        least_firings: a latent that fires less often is not judged.
        label_contexts: contexts that a labeller sees, at most, one of each sequence.
        before: tokens shown before an active one.
        after: tokens shown behind it.
        top_contexts: strongest contexts in the viewer.
        intervals: of activation, from each of which the viewer shows contexts too.
        interval_contexts: contexts of each interval.
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
        # A context may have no tokens before or behind; there is at least one of everything else.
        least = {f.name: int(f.name not in ("before", "after")) for f in fields(self)}
        del least["dead_threshold"]
        check_whole_fields(self, least)
        check_number_fields(self, (("dead_threshold", "0 or more (a number)", lambda v: v >= 0),))
