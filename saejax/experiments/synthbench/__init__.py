"""The synthbench study."""
