"""Published results of SynthSAEBench-16k."""

# SynthSAEBench-16k: L0 -> architecture -> metric -> mean and standard deviation over 5 seeds, of
# SAEs with 4096 latents after 200 million samples (batch 1024, lr 3e-4). Source: documentation of
# SAELens, page SynthSAEBench; the paper is Chanin and Garriga-Alonso, 2026, arXiv 2602.14687.
_SYNTHBENCH_METRICS = ("f1", "mcc", "uniqueness", "explained_variance")
_SYNTHBENCH = {
    25: {
        "relu": (0.5562, 0.0020, 0.6039, 0.0012, 0.8976, 0.0021, 0.7654, 0.0001),
        "batchtopk": (0.7316, 0.0010, 0.7574, 0.0003, 0.9837, 0.0015, 0.7923, 0.0003),
        "jumprelu": (0.7317, 0.0034, 0.7527, 0.0009, 0.9885, 0.0010, 0.7951, 0.0004),
        "matryoshka": (0.8793, 0.0021, 0.7927, 0.0006, 0.9987, 0.0005, 0.7792, 0.0004),
        "matching pursuit": (0.4464, 0.0044, 0.6930, 0.0030, 0.8281, 0.0069, 0.8351, 0.0003),
    },
    20: {
        "relu": (0.5777, 0.0012, 0.5834, 0.0015, 0.8528, 0.0055, 0.7501, 0.0009),
        "batchtopk": (0.8183, 0.0011, 0.7526, 0.0007, 0.9760, 0.0028, 0.7889, 0.0002),
        "jumprelu": (0.8241, 0.0041, 0.7434, 0.0015, 0.9781, 0.0029, 0.7906, 0.0005),
        "matryoshka": (0.8601, 0.0016, 0.7455, 0.0021, 0.9874, 0.0020, 0.7699, 0.0002),
        "matching pursuit": (0.4439, 0.0024, 0.6748, 0.0028, 0.7552, 0.0026, 0.8267, 0.0003),
    },
}


def synthbench() -> dict[int, dict[str, dict[str, tuple[float, float]]]]:
    """Published results on SynthSAEBench-16k: L0 -> architecture -> metric -> (mean, sd)."""
    return {
        l0: {
            name: dict(zip(_SYNTHBENCH_METRICS, zip(v[::2], v[1::2], strict=True), strict=True))
            for name, v in rows.items()
        }
        for l0, rows in _SYNTHBENCH.items()
    }
