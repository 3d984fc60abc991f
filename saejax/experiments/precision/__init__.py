"""The precision study."""
