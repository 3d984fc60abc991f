"""The grid study."""
