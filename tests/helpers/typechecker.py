"""The checker that conftest puts on every annotation of saejax."""

from beartype import BeartypeConf, beartype

# A whole number is a valid float, as in Python's own typing rules.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
