"""Latents to be labelled, made up for tests."""

from saejax.interpret.evidence import Context, Evidence


def latent(number, token=" Washington"):
    contexts = (
        Context(("In", token, ","), (0.0, 2.0, 0.0), 1),
        Context((f"of {number}", token), (0.0, 1.0), 1),
    )
    return Evidence(number, contexts)


def kept(tmp_path):
    return sorted((tmp_path / "cache").iterdir())
