"""Which true features were learned, lost or handed on between two evaluations."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Classes of a feature between two evaluations, by whether its best cosine reaches the threshold.
CLASSES = ("learned", "unlearned", "kept", "moved")


def track(
    before_index: Int[Array, "*cells n_features"],
    before_cosine: Float[Array, "*cells n_features"],
    index: Int[Array, "*cells n_features"],
    cosine: Float[Array, "*cells n_features"],
    threshold: float,
) -> dict[str, Float[Array, "*cells"]]:
    """Counts of features by what happened to them, and their mean change in representedness.

    A feature is represented where its best cosine is at least `threshold`.

        learned    was not represented, now is
        unlearned  was represented, now is not
        kept       was and is, with the same latent
        moved      was and is, with another latent

    The arrays are the best latent of each feature and its cosine, an evaluation before and now.

    Returns:
        For each class its count, and under `<class>_change` the mean of `cosine - before_cosine`
        over its features, NaN where it has none; `represented`, how many are represented now.
    """
    was, now, same = before_cosine >= threshold, cosine >= threshold, before_index == index
    members = {
        "learned": ~was & now,
        "unlearned": was & ~now,
        "kept": was & now & same,
        "moved": was & now & ~same,
    }
    out = {"represented": now.sum(-1).astype(jnp.float32)}
    for name, member in members.items():
        count = member.sum(-1).astype(jnp.float32)
        out[name] = count
        out[f"{name}_change"] = jnp.where(member, cosine - before_cosine, 0.0).sum(-1) / count
    return out
