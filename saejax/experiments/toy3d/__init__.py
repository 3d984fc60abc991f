"""The toy study in three dimensions."""
