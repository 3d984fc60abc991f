"""What the texts of the grid and the bimodality study claim, answered with numbers.

A row holds a claim, our mean over seeds with its standard deviation, and whether the claim holds.
Figures are computed for every seed on its own and judged by `verdict`, each row alone. SAEs of one
seed share their true features, so differences are taken within a seed. SAEs frozen as not finite are
left out.

Sources: "Towards a Probabilistic Disentanglement of Transformer Activations", part 2; "[Research
Update] Sparse Autoencoder features are bimodal".
"""

from saejax.claims.baselines import of_baselines
from saejax.claims.bimodality import of_bimodality
from saejax.claims.grid import of_grid
from saejax.claims.verdict import verdict

__all__ = ["of_baselines", "of_bimodality", "of_grid", "verdict"]
