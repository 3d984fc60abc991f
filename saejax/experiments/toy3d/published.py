"""Published numbers of the toy study."""

# MMCS of PCA in the toy study ("Towards a Probabilistic Disentanglement ...", part 1).
TOY3D_PCA = 0.42
