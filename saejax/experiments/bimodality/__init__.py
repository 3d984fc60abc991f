"""The bimodality study: what the dictionaries of one sweep have in common, and what they do not.

`measurement` runs the dictionaries on a text in the language model whose activations they were
trained on; `analysis` matches them with each other and with random ones. Both give arrays and rows
for the workdir; neither writes anything.

Source: "[Research Update] Sparse Autoencoder features are bimodal".
"""
