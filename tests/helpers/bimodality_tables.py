"""Tables of the bimodality study made by hand, in which every claim holds."""

import numpy as np
from scipy import stats

from saejax.experiments.bimodality.claims import of_bimodality

D_IN = 16
SIZES, SEEDS = (256, 512, 1024, 2048), (0, 5, 9)
LARGEST = SIZES[-1]
BIMODAL = "MCS is bimodal"
LOW_PEAK = "the low peak of MCS is that of random vectors"
HIGH_PEAK = "the high peak of MCS is near 1"
CLOSE = "low MCS match those of random vectors"
EQUAL = "low MCS match those of random vectors, samples of equal size"
CLOSER = "low MCS are much closer to random ones than those of other parameters are"
LESSER = "low MCS match random ones less in the smallest dictionary"
CORRELATED = "MCS against two larger dictionaries are highly correlated"
CLUSTERS = "MCS against two larger dictionaries form two clusters"
RISES = "larger dictionaries have more high-MCS latents"
FASTER = "the number of low-MCS latents rises even faster"
MOST = "nearly all latents of the smallest dictionary have high MCS"
FEW = "few latents of the second largest dictionary have high MCS"
DEAD, NOISE = "low-MCS latents are dead", "low-MCS latents account for noise"
REAL = "low-MCS latents are real, but not found by the larger dictionary"
ALL = (
    BIMODAL,
    LOW_PEAK,
    HIGH_PEAK,
    CLOSE,
    EQUAL,
    CLOSER,
    LESSER,
    CORRELATED,
    CLUSTERS,
    RISES,
    FASTER,
    MOST,
    FEW,
    DEAD,
    NOISE,
    REAL,
)
# Rows of each claim for four sizes.
COUNTS = (6, 3, 3, 3, 3, 3, 2, 3, 4, 3, 3, 1, 1, 1, 1, 1)


def mode_by_hand(M, K):
    """Where M f F^(M - 1) is highest on a grid, f and F those of a cosine: a Beta law on [-1,
    1]."""
    t = np.linspace(-1, 1, 20_001)[1:-1]
    shape = {"a": (K - 1) / 2, "b": (K - 1) / 2, "loc": -1, "scale": 2}
    log_f, log_F = stats.beta.logpdf(t, **shape), stats.beta.logcdf(t, **shape)
    return t[(log_f + (M - 1) * log_F).argmax()]


MODE = float(mode_by_hand(LARGEST, D_IN))
# Numbers of latents with high MCS.
HIGH = {256: 240, 512: 300, 1024: 200}


def make(sizes=SIZES, seeds=SEEDS, l1=(1e-3,)):
    """Tables of which most claims hold: a little differs from seed to seed."""
    out = {
        name: [] for name in ("cells", "modes", "split", "emd", "law", "correlation", "explanation")
    }
    for penalty in l1:
        for i, seed in enumerate(seeds):
            little = 0.01 * (i - 1)
            for d in sizes:
                head = {"l1": penalty, "d_sae": d, "seed": seed}
                out["cells"].append({**head, "fvu": 0.1})
                if d == sizes[-1]:
                    continue
                against = {**head, "against": sizes[-1]}
                dip = {"dip": 0.1, "dip_p_value": 0.001}
                for place in (MODE + little, 0.98 + little / 2):
                    out["modes"].append({**against, "place": place, **dip})
                high = HIGH[d] + i
                split = {"high": high, "low": d - high, "high_share": high / d}
                out["split"].append({**against, **split})
                worse = 0.5 if d == sizes[0] else 0.0
                learned = 0.0015 + 0.0005 * worse + 1e-4 * little
                out["emd"].append(
                    {
                        **against,
                        "n_low": 100,
                        "learned_random": learned,
                        "random_alt": 0.012,
                        "learned_alt": 0.0135,
                        "ratio": learned / 0.001,
                        "p_value": 0.5 + little,
                        "expected_if_random": 0.00125,
                    }
                )
                out["law"].append({**against, "n_low": 100, "ks_p_value": 0.4})
                counts = {"dead": 60 + i, "noise": 20, "real": 10 - i, "idle": 10}
                counts = {f"low_count_{name}": n for name, n in counts.items()}
                out["explanation"].append({**against, "low_n_measured": 100, **counts})
                larger = [size for size in sizes if size > d]
                for j, a in enumerate(larger):
                    for b in larger[j + 1 :]:
                        both = {"n": d, "both_high": d // 2 + i, "both_low": d // 2 - d // 32}
                        pair = {**head, "larger": a, "largest": b, "pearson": 0.9 + little}
                        out["correlation"].append({**pair, **both})
    return out


def change(tables, name, d=None, seed=None, **columns):
    """Columns of some rows anew; what a function gives from the old row."""
    for row in tables[name]:
        if d in (None, row["d_sae"]) and seed in (None, row["seed"]):
            row |= {k: v(row) if callable(v) else v for k, v in columns.items()}
    return tables


def rows(tables, claim, measured=""):
    found = [row for row in of_bimodality(tables, D_IN) if row["claim"] == claim]
    return [row for row in found if measured in row["measure"]]


def only(tables, claim, measured=""):
    (row,) = rows(tables, claim, measured)
    return row


def answers(tables, claim, measured=""):
    return [row["answer"] for row in rows(tables, claim, measured)]
