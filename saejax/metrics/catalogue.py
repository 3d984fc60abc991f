"""Every metric by name: the order of its column and which direction is better."""

# Every scalar that an evaluation reports, and whether a larger value is better.
LARGER_IS_BETTER: dict[str, bool] = {
    "mmcs_true_to_dict": True,
    "mmcs_dict_to_true": True,
    "mcc": True,
    "uniqueness": True,
    "precision": True,
    "recall": True,
    "f1": True,
    "mse": False,
    "l1_loss": False,
    "l0": False,
    "fvu": False,
    "dead_latents": False,
    "mmcs_to_next_larger": True,
    "represented": True,
    "learned": True,
    "unlearned": False,
}


# Columns of the table of results, in order; what was not measured stays empty.
METRICS = (
    "mmcs_true_to_dict",
    "mmcs_dict_to_true",
    "mse",
    "l1_loss",
    "l0",
    "fvu",
    "dead_latents",
    "mmcs_to_next_larger",
    "learned",
    "unlearned",
    "represented",
    "mcc",
    "uniqueness",
    "precision",
    "recall",
    "f1",
)

# Metrics by which architectures are compared.
COMPARED = ("mmcs_true_to_dict", "mcc", "f1", "fvu")
