"""What is measured of a cell, as batched array code."""
