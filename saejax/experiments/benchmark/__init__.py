"""How fast sweeps train, alone and beside their peers.

Only `recipe`, `torch_loop`, `torch_ensemble` and `saelens` import torch, and nothing imports them
before their packages were found to be installed.
"""
