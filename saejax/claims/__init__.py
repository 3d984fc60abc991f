"""What the texts of the grid, the bimodality and the GPT-2 study claim, answered with numbers.

A row holds a claim, our mean over seeds with its standard deviation, and whether the claim holds.
Figures are computed for every seed on its own and judged by `verdict`, each row alone. SAEs of one
seed share their true features, so differences are taken within a seed. SAEs frozen as not finite are
left out.

Sources: "Towards a Probabilistic Disentanglement of Transformer Activations", part 2; "[Research
Update] Sparse Autoencoder features are bimodal"; "Sparse Autoencoders for Monosemanticity".
"""

from saejax.claims.baselines import of_baselines
from saejax.claims.bimodality import of_bimodality
from saejax.claims.gpt2 import of_gpt2
from saejax.claims.grid import of_grid
from saejax.claims.verdict import verdict

__all__ = ["of_baselines", "of_bimodality", "of_gpt2", "of_grid", "verdict"]
