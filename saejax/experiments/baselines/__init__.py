"""The baselines study."""
