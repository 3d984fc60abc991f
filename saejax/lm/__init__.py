"""Language models whose activations can be read and replaced by name."""
