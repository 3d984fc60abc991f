"""Small things without a subject, on which every room stands."""
