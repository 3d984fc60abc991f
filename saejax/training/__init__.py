"""Training of a sweep: read `loop`, then `chunk`, then `step`."""
