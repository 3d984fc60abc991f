"""The setting of SynthSAEBench-16k by its name, and smaller ones of its kind."""

from saejax.core.checks import check_whole
from saejax.data.synthetic.hierarchy import Hierarchy
from saejax.data.synthetic.magnitudes import Magnitudes
from saejax.data.synthetic.orthogonal import Orthogonal
from saejax.data.synthetic.recipe import Synthetic
from saejax.data.synthetic.zipf import Zipf


def synthsaebench_16k(scale: int = 1) -> Synthetic:
    """The data of SynthSAEBench-16k, or a reduced version for small machines.

    | scale | features | roots | d_in | mean active | largest overlap |
    |---|---|---|---|---|---|
    | 1 | 16384 | 128 | 768 | 34.5 | 0.145 |
    | 4 | 4096 | 32 | 384 | 16.0 | 0.184 |
    | 16 | 1024 | 8 | 192 | 7.3 | 0.224 |
    | 64 | 256 | 2 | 96 | 2.9 | 0.259 |

    Mean active is `mean_active`; the largest overlap is the mean over features of the largest
    |cosine| with another. Features and roots are divided by `scale`, d_in by its square root,
    because the mean number of active features of this Zipf law goes about with the root of the
    number of features.

    Kept: the highest and the lowest probability and the exponent, the shape of the trees and the
    share of features in them (two thirds), the strengths, and the correlation of a pair (root mean
    square 0.05). About kept: mean active / d_in, which falls from 4.5 to 3.0 percent. Not kept:
    features / d_in, which falls from 21 to 2.7, and the overlap.

    Two things differ from the publication. The common factors have loadings N(0, 0.1^2) of rank 25
    there; here `copula_strength` is 25 x 0.1^2 = 0.25, which has the same mean share of common
    variance and the same root mean square correlation, but the same share for every feature, where
    theirs spreads by 28 percent. And published figures are of one fixed draw of the features; here
    each seed has its own.

    Many features fire less often than `zipf` asks, as in the publication: siblings would have to
    fire more often together than their parent, see `saejax.data.synthetic.hierarchy.proposals`. The
    firing probabilities add up to 59.1 at full size, of which 34.5 remain.

    Source: arXiv 2602.14687, and the settings of its released second version.
    """
    scale = check_whole("scale", scale, "1, 4, 16 or 64", lambda v: v in (1, 4, 16, 64))
    return Synthetic(
        kind="copula",
        d_in=round(768 / scale**0.5),
        n_features=16384 // scale,
        copula_strength=0.25,
        copula_rank=25,
        zipf=Zipf(exponent=0.5, p_max=0.4, p_min=5e-4),
        hierarchy=Hierarchy(roots=128 // scale, branching=4, depth=3, exclusive=True, scaled=True),
        magnitudes=Magnitudes(first=5.0, last=4.0, spread_mean=0.5, spread_std=0.5),
        orthogonal=Orthogonal(steps=100, lr=3e-4),
        bias_norm=0.5,
    )
