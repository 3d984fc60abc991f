"""A result of a sweep, in memory and on disk."""
