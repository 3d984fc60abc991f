"""The tokens study."""
