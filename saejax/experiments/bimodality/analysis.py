"""MCS between the dictionaries of a sweep, beside random ones, as arrays and rows of numbers."""

import warnings
from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from scipy import stats

from saejax.analysis.mcs import (
    CLASSES,
    Explanation,
    Interval,
    MaxCosine,
    RandomComparison,
    RunMCS,
    compare_with_random,
    correlation,
    dip_test,
    explain,
    find_modes,
    mcs_of_run,
    split,
)
from saejax.core.stats import bootstrapped
from saejax.experiments.bimodality.claims import KEYS
from saejax.experiments.bimodality.measurement import Measured, dictionaries, sizes
from saejax.experiments.bimodality.settings import AnalysisSettings
from saejax.lm.loss import share_recovered
from saejax.results.result import Result

# Uniform samples that the dip test compares with: p-values are known to 0.002.
NULL_SAMPLES = 499
# A latent counts for something when its effect, in units of that of a random direction, is larger
# than this share of other random directions have.
EFFECT_QUANTILE = 0.95
COMPARED = ("learned_random", "random_random", "random_alt", "learned_alt", "ratio")

Row = dict[str, Any]


class Analysis(NamedTuple):
    """Everything the study says about one l1.

    Attributes:
        arrays: for the workdir's analysis.npz, by name.
        rows: for its tables, by name of the table.
    """

    arrays: dict[str, np.ndarray]
    rows: dict[str, list[Row]]


def analyse(
    result: Result, measured: Measured, l1: float, settings: AnalysisSettings, key: PRNGKeyArray
) -> Analysis:
    """Matches the dictionaries of one l1 with each other and with random ones.

    Every size is compared with every larger one of its seed and with its own of the other seeds.
    Against the largest there are also the modes of MCS, low MCS beside those of random
    dictionaries, and low and high MCS beside what the latents do.

    A latent's effect is taken in units of that of a random direction with the same activations, so
    that rare and weak latents are judged by what they mean to the model, not by how much they are
    active. It counts as one (`saejax.analysis.mcs.explain`) when it is larger than the effects of
    95 % of other random directions in these units.

    Args:
        result: of the sweep.
        measured: what its dictionaries do, see `saejax.experiments.bimodality.measurement.measure`.
        l1: one of its coefficients.
        settings: of the analysis.
        key: of everything that is drawn.
    """
    widths = sizes(result)
    rows_of = [np.stack([p.W_dec for p in dictionaries(result, l1, d)]) for d in widths]
    found = mcs_of_run(rows_of)
    out = Analysis({}, {name: [] for name in KEYS})
    at = f"{l1:g}"
    for (d, larger), mcs in found.to_larger.items():
        out.arrays[f"mcs/{at}/{d}/{larger}"] = mcs
    for d in widths:
        out.arrays[f"other_seeds/{at}/{d}"] = found.to_other_seeds[d]
        out.arrays[f"frequency/{at}/{d}"] = measured.frequency[l1, d]
        out.arrays[f"losses/{at}/{d}"] = measured.losses[l1, d]
        for name in ("effect", "control", "other_control"):
            out.arrays[f"{name}/{at}/{d}"] = getattr(measured, name)[l1, d]
    for i, seed in enumerate(result.coords["seed"]):
        of_seed = jax.random.fold_in(key, seed)
        for d in widths:
            of_size = jax.random.fold_in(of_seed, d)
            head = {"l1": l1, "d_sae": d, "seed": seed}
            out.rows["cells"].append(
                head | _cell(result, measured, found, l1, d, i, settings, of_size)
            )
            if d == widths[-1]:
                continue
            mine = {larger: found.to_larger[d, larger][i] for larger in widths if larger > d}
            _pairs(out, head, mine, settings, of_size)
            head |= {"against": widths[-1]}
            low = mine[widths[-1]]
            _against_largest(out, head, low, rows_of[-1].shape[1:], settings, of_size)
            reasons = _reasons(measured, low, l1, d, i, settings, of_size)
            out.rows["explanation"].append(head | reasons)
    _stack(out, result, l1, widths[:-1])
    return out


def columns(name: str, interval: Interval) -> Row:
    """An interval as three columns."""
    return {name: interval.value, f"{name}_from": interval.low, f"{name}_to": interval.high}


def _cell(
    result: Result,
    measured: Measured,
    found: RunMCS,
    l1: float,
    d: int,
    i: int,
    settings: AnalysisSettings,
    key: PRNGKeyArray,
) -> Row:
    """One SAE: reconstruction, sparsity, the model's loss, and its mean MCS."""
    largest = sizes(result)[-1]
    chosen = result.select(
        seed=result.coords["seed"][i], ratio=result.coords["ratio"][result.d_sae.index(d)], l1=l1
    )
    index = tuple(hits[0] for hits in chosen)
    row: Row = {
        name: float(result.final[name][index]) for name in ("fvu", "mse", "l0", "dead_latents")
    }
    losses = np.asarray(measured.losses[l1, d][i], np.float64)
    row["loss"] = float(losses.mean())
    clean, *bases = (np.asarray(a, np.float64) for a in measured.ablated)
    for name, base in zip(("recovered_zero", "recovered_mean"), bases, strict=True):
        data = (clean, base, losses)
        row |= columns(
            name, bootstrapped(share_recovered, data, key, settings.n_boot, settings.level)
        )
    others = found.to_other_seeds[d][i]
    row["mmcs_to_largest"] = float(found.to_larger[d, largest][i].mean()) if d < largest else np.nan
    row["mmcs_to_other_seeds"] = float(others.mean()) if others.size else np.nan
    return row


def _pairs(
    out: Analysis,
    head: Row,
    mine: Mapping[int, np.ndarray],
    settings: AnalysisSettings,
    key: PRNGKeyArray,
) -> None:
    """High and low MCS against each larger size, and how MCS against two of them go together."""
    for larger, mcs in mine.items():
        parts = split(mcs, settings.cutoff, settings.level)
        row = {name: np.asarray(value).item() for name, value in parts._asdict().items()}
        out.rows["split"].append(head | {"against": larger} | row)
    for larger, largest in combinations(mine, 2):
        both = correlation(mine[larger], mine[largest], key, settings.n_boot, settings.level)
        high = [mine[d] >= settings.cutoff for d in (larger, largest)]
        row = columns("pearson", both.pearson) | columns("spearman", both.spearman) | {"n": both.n}
        row |= {
            "both_high": int((high[0] & high[1]).sum()),
            "both_low": int((~high[0] & ~high[1]).sum()),
        }
        out.rows["correlation"].append(head | {"larger": larger, "largest": largest} | row)


def _against_largest(
    out: Analysis,
    head: Row,
    mcs: np.ndarray,
    shape: tuple[int, ...],
    settings: AnalysisSettings,
    key: PRNGKeyArray,
) -> None:
    """Modes of MCS against the largest dictionary, of `shape`, and low MCS beside random ones."""
    of_modes, of_random = jax.random.split(key)
    M, K = shape
    modes = find_modes(mcs, of_modes, n_boot=settings.n_boot, level=settings.level)
    # One key for all seeds and l1: they are compared with the same uniform samples.
    dip = dip_test(mcs, jax.random.key(settings.seed), NULL_SAMPLES)
    for k in range(len(modes.place)):
        each = {
            name: float(getattr(modes, name)[k])
            for name in ("place", "low", "high", "height", "share", "excess", "support")
        }
        out.rows["modes"].append(head | each | {"dip": dip.statistic, "dip_p_value": dip.p_value})
    low = mcs[mcs < settings.cutoff]
    if not len(low):
        return
    try:
        compared = compare_with_random(
            mcs,
            M,
            K,
            of_random,
            settings.cutoff,
            settings.n_random,
            settings.n_boot,
            level=settings.level,
        )
    except ValueError as error:
        # In few dimensions random vectors may have no low MCS to compare with.
        warnings.warn(
            f"d_sae {head['d_sae']}: not compared with random ones; {error}", stacklevel=2
        )
        return
    at = f"{head['l1']:g}/{head['d_sae']}/{head['seed']}"
    out.arrays.update(_arrays_of(compared, at, len(mcs)))
    row = {"n_low": len(low)}
    for name in COMPARED:
        row |= columns(name, getattr(compared, name))
    row |= {"expected_if_random": compared.expected_if_random, "p_value": compared.p_value}
    out.rows["emd"].append(head | row)
    law = MaxCosine(M, K, settings.cutoff)
    row = {"n_low": len(low)}
    for name, sample in (("", compared.samples[0]), ("random_", compared.samples[1])):
        test = stats.kstest(sample, law.cdf)
        row |= {f"{name}ks": float(test.statistic), f"{name}ks_p_value": float(test.pvalue)}  # pyright: ignore
    out.rows["law"].append(head | row)


def _arrays_of(compared: RandomComparison, at: str, n: int) -> dict[str, np.ndarray]:
    """Distances and one random sample of a comparison, under names that `_stack` gathers."""
    drawn = compared.samples[1]
    return {
        f"emd/{at}": compared.emd.distance,
        f"emd_low/{at}": compared.emd.low,
        f"emd_high/{at}": compared.emd.high,
        f"random/{at}": np.pad(drawn, (0, n - len(drawn)), constant_values=np.nan),
    }


def _stack(out: Analysis, result: Result, l1: float, widths: list[int]) -> None:
    """Puts arrays of single seeds together, NaN for seeds without low MCS."""
    for name in ("emd", "emd_low", "emd_high", "random"):
        for d in widths:
            at = f"{name}/{l1:g}/{d}"
            parts = [out.arrays.pop(f"{at}/{seed}", None) for seed in result.coords["seed"]]
            known = next((part for part in parts if part is not None), None)
            if known is not None:
                blank = np.full_like(known, np.nan)
                out.arrays[at] = np.stack([blank if part is None else part for part in parts])


def _reasons(
    measured: Measured,
    mcs: np.ndarray,
    l1: float,
    d: int,
    i: int,
    settings: AnalysisSettings,
    key: PRNGKeyArray,
) -> Row:
    """Why some latents have a low MCS: dead, rare or real."""
    frequency, effect, control, other = (
        column[l1, d][i].astype(np.float64) for column in measured[2:]
    )
    dead = frequency == 0
    # A dead latent has no control.
    ratio, null = np.where(dead & (effect == 0), 0.0, effect / control), other / control
    known = null[np.isfinite(null)]
    threshold = float(np.quantile(known, EFFECT_QUANTILE)) if len(known) else 1.0
    reasons = explain(
        mcs,
        frequency,
        dead,
        ratio,
        key,
        settings.rare_below,
        threshold,
        settings.cutoff,
        settings.n_boot,
        settings.level,
    )
    row = {"effect_from": threshold, "supported": reasons.supported} | _flat(reasons)
    for side, inside in (("low", mcs < settings.cutoff), ("high", mcs >= settings.cutoff)):
        nats = (effect[inside & ~dead & np.isfinite(effect)],)
        median = bootstrapped(np.median, nats, key, settings.n_boot, settings.level)
        row |= columns(f"{side}_nats", median)
    return row


def _flat(reasons: Explanation) -> Row:
    row: Row = {}
    for side in ("low", "high"):
        group = getattr(reasons, side)
        row[f"{side}_n"] = group.n
        for name in ("dead", "frequency", "effect"):
            row |= columns(f"{side}_{name}", getattr(group, name))
        row[f"{side}_n_measured"] = group.n_measured
        for name in CLASSES:
            row[f"{side}_count_{name}"] = group.counts[name]
            row |= columns(f"{side}_share_{name}", group.shares[name])
    for name, interval in reasons.correlations.items():
        row |= columns(f"rho_{name.replace(' ', '_')}", interval)
    return row
