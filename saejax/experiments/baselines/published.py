"""Published MMCS of the baseline methods."""

# MMCS of the baseline methods in part 2, at 512 to 2048 samples.
BASELINES = {
    "uncorrelated": {"kmeans": 0.56, "kmedoids": 0.21, "pca": 0.17, "ica": 0.17},
    "correlated": {"kmeans": 0.59, "kmedoids": 0.45, "pca": 0.18, "ica": 0.19},
}
