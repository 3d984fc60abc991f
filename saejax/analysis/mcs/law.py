"""The law of the MCS of a random vector: the maximum of M independent cosines in K dimensions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import integrate, optimize, special

from saejax.core.checks import check_number, check_whole

Numbers = Float[np.ndarray, "*shape"] | float
_EPS = np.finfo(np.float64).eps


@dataclass(frozen=True)
class MaxCosine:
    """The largest of M independent cosines in K dimensions, given that it is below a cutoff.

    The cosine t of two random directions has (t + 1) / 2 ~ Beta(a, a) with a = (K - 1) / 2, so with
    the regularised incomplete beta function I its density f and distribution F are

        f(t) = (1 - t^2)^((K - 3) / 2) / B(1/2, a),        F(t) = I_((1 + t) / 2)(a, a).

    The largest of M has distribution F^M and density M f F^(M - 1). Below a cutoff c both are
    divided by F(c)^M. Everything is computed from log F, which near t = 1 is log1p of minus the
    upper tail: a distribution rounded to 1 would lose its M-th power. Checked for K from 2 to 1024
    and M up to 65536.

    MCS of n vectors against one dictionary of M rows are n draws that share the dictionary and so
    are not quite independent. The text expects that this does not matter, and it hardly shows: of
    30 such samples with n 4096, M 8192 and K 128, Kolmogorov-Smirnov p-values had the median 0.34.

    Attributes:
        M: number of cosines, the size of the larger dictionary.
        K: dimensions, 2 or more.
        below: the cutoff c; 1 leaves the law as it is.

    Source: footnote 2 of "[Research Update] Sparse Autoencoder features are bimodal"; its ratio of
    a normal and a chi variable is the same f. Muller (1959) for normal vectors and the sphere.
    """

    M: int
    K: int
    below: float = 1.0

    def __post_init__(self) -> None:
        check_whole("M", self.M, "1 or more", lambda v: v >= 1)
        check_whole("K", self.K, "2 or more", lambda v: v >= 2)
        check_number("below", self.below, "above -1, up to 1", lambda v: -1 < v <= 1)
        if not np.isfinite(self._log_below):
            raise ValueError(
                f"below: got {self.below}, allowed: where one cosine in {self.K} dimensions is "
                "below with a probability that float64 can hold"
            )

    @property
    def _a(self) -> float:
        return (self.K - 1) / 2

    def _log_one_cdf(self, t: np.ndarray | float) -> Any:
        upper = special.betainc(self._a, self._a, (1 - t) / 2)
        lower = special.betainc(self._a, self._a, (1 + t) / 2)
        with np.errstate(divide="ignore"):
            return np.where(t > 0, np.log1p(-upper), np.log(lower))

    def _log_one_pdf(self, t: np.ndarray | float) -> Any:
        power = special.xlogy((self.K - 3) / 2, (1 - t) * (1 + t))
        return power - special.betaln(0.5, self._a)

    @property
    def _log_below(self) -> float:
        return float(self._log_one_cdf(float(self.below)))

    def logcdf(self, t: Numbers) -> Float[np.ndarray, "*shape"]:
        """Logarithm of P(largest cosine <= t), `M (log F(t) - log F(below))`, at most 0."""
        t = np.clip(np.asarray(t, np.float64), -1.0, self.below)
        return np.asarray(self.M * (self._log_one_cdf(t) - self._log_below))

    def cdf(self, t: Numbers) -> Float[np.ndarray, "*shape"]:
        """P(largest cosine <= t)."""
        return np.asarray(np.exp(self.logcdf(t)))

    def logpdf(self, t: Numbers) -> Float[np.ndarray, "*shape"]:
        """Logarithm of the density, `log M + log f + (M - 1) log F - M log F(below)`.

        Minus infinity outside (-1, below]; infinite at 1 where K is 2.
        """
        t = np.asarray(t, np.float64)
        inside = (t > -1) & (t <= self.below)
        t = np.where(inside, t, 0.0)
        others = (self.M - 1) * self._log_one_cdf(t) - self.M * self._log_below
        return np.where(inside, np.log(self.M) + self._log_one_pdf(t) + others, -np.inf)

    def pdf(self, t: Numbers) -> Float[np.ndarray, "*shape"]:
        """Density, per unit of cosine: what a histogram with `density=True` tends to."""
        return np.asarray(np.exp(self.logpdf(t)))

    def ppf(self, q: Numbers) -> Float[np.ndarray, "*shape"]:
        """Quantile: the t at which the distribution is q. Uniform q give draws from the law."""
        q = np.asarray(q, np.float64)
        if not ((q >= 0) & (q <= 1)).all():
            raise ValueError(f"q: got values from {q.min()} to {q.max()}, allowed: from 0 to 1")
        with np.errstate(divide="ignore"):
            log_one = np.log(q) / self.M + self._log_below
        # Each half is inverted from its own tail: 1 minus a small tail would have lost its digits.
        upper = 1 - 2 * special.betaincinv(self._a, self._a, np.minimum(-np.expm1(log_one), 0.5))
        lower = 2 * special.betaincinv(self._a, self._a, np.minimum(np.exp(log_one), 0.5)) - 1
        return np.asarray(np.minimum(np.where(log_one > np.log(0.5), upper, lower), self.below))

    def mean(self) -> float:
        """Expected value, `t_1 - integral of the distribution from t_0 to t_1`, by quadrature.

        t_0 and t_1 leave less than the rounding of float64 outside.
        """
        t_0, t_1 = self.ppf(np.array([_EPS**2, 1 - _EPS / 2]))
        return float(t_1 - integrate.quad(self.cdf, t_0, t_1, epsabs=1e-12, limit=200)[0])

    def mode(self) -> float:
        """Where the density is highest: the root of the derivative of its logarithm,

            -(K - 3) t / (1 - t^2) + (M - 1) f(t) / F(t) = 0,

        or the cutoff, if that is lower. From K = 4 on the density is log-concave and there is one
        root. With K 2 or 3 it rises up to the cutoff; with M = 1 as well it has no mode, which is
        NaN.
        """
        if self.K <= 3:
            return float("nan") if self.M == 1 else float(self.below)

        def slope(t: float) -> float:
            ratio = np.exp(self._log_one_pdf(t) - self._log_one_cdf(t))
            return float(-(self.K - 3) * t / ((1 - t) * (1 + t)) + (self.M - 1) * ratio)

        whole = MaxCosine(self.M, self.K)
        t_0, t_1 = whole.ppf(np.array([1e-9, 1 - 1e-9]))
        return min(float(optimize.brentq(slope, t_0, t_1, xtol=1e-13)), float(self.below))  # pyright: ignore
