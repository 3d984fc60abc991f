"""Published percentages of dead and monosemantic latents."""

# Percentages of the GPT-2 study: what -> way to revive -> l1 -> by expansion. One run each, 50
# labels an SAE ("Sparse Autoencoders for Monosemanticity").
GPT2_EXPANSION = (4.0, 8.0, 16.0, 32.0)
GPT2 = {
    "dead": {
        "off": {0.01: (13.1, 26.3, 29.3, 35.2), 0.0001: (15.4, 27.5, 33.4, 35.6)},
        "on": {0.01: (4.8, 3.9, 15.7, 26.97), 0.0001: (5.24, 4.51, 11.72, 23.43)},
    },
    "monosemantic": {
        "off": {0.01: (82, 86, 84, 86), 0.0001: (82, 82, 80, 78)},
        "on": {0.01: (72, 78, 88, 80), 0.0001: (80, 78, 78, 76)},
    },
}
