"""Pictures of three dimensions: features, samples, films of dictionaries; and bars beside them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from saejax.results.plots.figure import Figure

ACTIVE, INACTIVE, SAMPLE, LIVE, DEAD = "#1a9641", "0.72", "#2166ac", "#2166ac", "#d7301f"
BAR, MARK, SOUGHT = "#a6cee3", "#1f4e79", "#d7301f"


def _space(fig: Figure, place: tuple[int, int, int], limit: float, sphere: bool) -> Any:
    """A 3-D axis without decoration, all sides equal."""
    ax: Any = fig.add_subplot(*place, projection="3d", computed_zorder=False)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), zlim=(-limit, limit))
    ax.set_box_aspect((1, 1, 1), zoom=1.6)
    ax.view_init(elev=22, azim=38)
    ax.set_axis_off()
    if sphere:
        u, v = np.mgrid[0 : 2 * np.pi : 25j, 0 : np.pi : 13j]
        points = np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v)
        ax.plot_wireframe(*points, color="0.85", lw=0.4, zorder=0)
    for axis in np.eye(3):
        ax.plot(*zip(-limit * axis, limit * axis, strict=True), color="0.8", lw=0.6, zorder=0)
    return ax


def _arrows(ax: Any, vectors: np.ndarray, colour: str, lw: float) -> None:
    zero = np.zeros(len(vectors))
    ax.quiver(zero, zero, zero, *vectors.T, color=colour, lw=lw, arrow_length_ratio=0.12, zorder=2)


def _names(ax: Any, vectors: np.ndarray, colours: Sequence[str]) -> None:
    for i, (v, colour) in enumerate(zip(vectors, colours, strict=True)):
        reach = v * (1 + 0.16 / max(float(np.linalg.norm(v)), 0.3))
        ax.text(*reach, str(i), color=colour, fontsize=9, ha="center", va="center")


def features(drawn: np.ndarray, unit: np.ndarray) -> Figure:
    """The Gaussian vectors that features are made of, and the same vectors scaled to norm 1.

    Args:
        drawn: [n_features, 3].
        unit: [n_features, 3].
    """
    fig = Figure(figsize=(9, 4.6), layout="constrained")
    limit = float(np.abs(drawn).max()) * 1.1
    left = _space(fig, (1, 2, 1), limit, False), drawn, "drawn from a Gaussian"
    right = _space(fig, (1, 2, 2), 1.1, True), unit, "scaled to length 1: the true features"
    for ax, vectors, title in (left, right):
        _arrows(ax, vectors, ACTIVE, 1.8)
        _names(ax, vectors, ["0.2"] * len(vectors))
        ax.set_title(title, fontsize=10)
    fig.suptitle(f"{len(drawn)} feature directions in 3 dimensions", fontsize=11)
    return fig


def samples(F: np.ndarray, codes: np.ndarray) -> Figure:
    """Sampled activations, each with the features that it is a sum of.

    Args:
        F: [n_features, 3], unit rows.
        codes: [n, n_features], strength of each feature in each sample.
    """
    columns = 4
    rows = -(-len(codes) // columns)
    fig = Figure(figsize=(2.7 * columns, 2.75 * rows + 0.7), layout="constrained")
    for i, code in enumerate(codes):
        x, on = code @ F, code > 0
        ax = _space(fig, (rows, columns, i + 1), max(1.1, 1.1 * float(np.linalg.norm(x))), True)
        if (~on).any():
            _arrows(ax, F[~on], INACTIVE, 1.0)
        if on.any():
            _arrows(ax, F[on], ACTIVE, 1.8)
        ax.plot(*zip(np.zeros(3), x, strict=True), color=SAMPLE, lw=3, zorder=3)
        ax.plot(*x[:, None], "o", color=SAMPLE, ms=7, zorder=3)
        _names(ax, F, [ACTIVE if o else INACTIVE for o in on])
        terms = " + ".join(f"{code[k]:.2f} f{k}" for k in np.flatnonzero(on))
        ax.set_title(f"x = {terms or '0'}", fontsize=8.5)
    handles = [
        Line2D([], [], color=SAMPLE, lw=2, marker="o", label="sampled activation x"),
        Line2D([], [], color=ACTIVE, lw=2, marker="", label="feature that is active in it"),
        Line2D([], [], color=INACTIVE, lw=2, marker="", label="inactive feature"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    fig.suptitle(f"{len(codes)} samples and the features they are made of", fontsize=11)
    return fig


def film_steps(steps: np.ndarray, dense_until: int = 200, sparse: int = 200) -> np.ndarray:
    """Positions of the snapshots worth a frame: the early ones, one every `sparse` steps, the last.

    Args:
        steps: [n], steps of the snapshots.
        dense_until: up to which step every snapshot is shown.
        sparse: distance of the frames after that, in steps.
    """
    keep, shown = [], -np.inf
    for i, step in enumerate(steps):
        if step <= dense_until or step - shown >= sparse or i == len(steps) - 1:
            keep.append(i)
            shown = step
    return np.array(keep)


def film(
    F: np.ndarray,
    W_dec: np.ndarray,
    alive: np.ndarray,
    mmcs: np.ndarray,
    steps: np.ndarray,
    title: str,
) -> Iterator[np.ndarray]:
    """Frames of a dictionary that moves onto the true features.

    Args:
        F: [n_features, 3], unit rows.
        W_dec: [n, d_sae, 3].
        alive: [n, d_sae]; live latents are blue dots on a line from the centre, dead ones red
            crosses.
        mmcs: [n], shown in the heading.
        steps: [n].
        title: what the cell is.

    Yields:
        Pixels [height, width, 3] of 8 bits.
    """
    fig = Figure(figsize=(3.4, 3.75), dpi=95)
    canvas = FigureCanvasAgg(fig)
    fig.subplots_adjust(0, 0.06, 1, 0.86)
    ax = _space(fig, (1, 1, 1), 1.1, True)
    _arrows(ax, F, ACTIVE, 2.2)
    _names(ax, F, [ACTIVE] * len(F))
    lines = Line3DCollection(np.zeros((1, 2, 3)), colors=LIVE, lw=0.9, zorder=3)
    spokes = ax.add_collection3d(lines)
    (live,) = ax.plot([], [], [], "o", color=LIVE, ms=4.5, zorder=4)
    (dead,) = ax.plot([], [], [], "x", color=DEAD, ms=5.5, mew=1.3, zorder=4)
    heading = fig.text(0.5, 0.985, "", ha="center", va="top", fontsize=9.5)
    handles = [
        Line2D([], [], color=ACTIVE, lw=2.2, label="true feature"),
        Line2D([], [], color=LIVE, lw=0.9, marker="o", ms=4.5, label="live latent"),
        Line2D([], [], color=DEAD, lw=0, marker="x", ms=5, label="dead latent"),
    ]
    looks = {"fontsize": 7.5, "frameon": False, "handlelength": 1.2, "columnspacing": 1.2}
    fig.legend(handles=handles, loc="lower center", ncols=3, **looks)
    for rows, on, score, step in zip(W_dec, alive, mmcs, steps, strict=True):
        spokes.set_segments(np.stack([np.zeros_like(rows[on]), rows[on]], axis=1))
        live.set_data_3d(*rows[on].T)
        dead.set_data_3d(*rows[~on].T)
        counts = f"{on.sum()} live, {(~on).sum()} dead"
        heading.set_text(f"{title}\nstep {step:,}   MMCS {score:.2f}   {counts}")
        canvas.draw()
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def frequencies(measured: np.ndarray, expected: np.ndarray) -> Figure:
    """How often every feature is active.

    Args:
        measured: [n_seeds, n_features], shares of samples; a dot for each seed, a bar for their
            mean.
        expected: [n_features], the firing probabilities asked for, drawn as a line.
    """
    n_seeds, n = measured.shape
    fig = Figure(figsize=(max(5.0, 0.5 * n + 2), 3.4), layout="constrained")
    ax = fig.subplots()
    at = np.arange(n)
    ax.bar(at, measured.mean(0), color=BAR, width=0.7, label="measured, mean of the seeds")
    for values in measured:
        ax.plot(at, values, "o", color=MARK, ms=3.5, alpha=0.7)
    ax.plot([], [], "o", color=MARK, ms=3.5, label="one seed")
    ends, label = np.arange(n + 1) - 0.5, "asked for: falls with the feature's number"
    line = [*expected, expected[-1]]
    ax.step(ends, line, where="post", color=SOUGHT, lw=1.3, label=label)
    ax.set(xlabel="feature", ylabel="share of samples with it", xticks=at, xlim=(-0.6, n - 0.4))
    ax.set_ylim(0, 1.35 * max(float(measured.max()), float(expected.max())))
    ax.legend(fontsize=8, frameon=False, loc="upper right")
    ax.set_title(f"How often each feature is active ({n_seeds} seeds)", fontsize=10.5)
    return fig


def distribution(values: np.ndarray, xlabel: str, published: float) -> Figure:
    """Histogram of a number [n] over draws, with its mean and the published value."""
    fig = Figure(figsize=(5.6, 3.2), layout="constrained")
    ax = fig.subplots()
    ax.hist(values, bins=min(20, max(5, len(values) // 5)), color=BAR, edgecolor="white")
    ax.axvline(values.mean(), color=MARK, lw=1.6, label=f"mean {values.mean():.2f}")
    ax.axvline(published, color=SOUGHT, lw=1.6, ls="--", label=f"published {published:g}")
    ax.set(xlabel=xlabel, ylabel="number of draws")
    ax.legend(fontsize=8.5, frameon=False)
    return fig
