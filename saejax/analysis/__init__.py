"""Studies of what SAEs learned: baselines, matching of dictionaries, t-SNE."""
