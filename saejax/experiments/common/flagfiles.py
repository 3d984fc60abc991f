"""Flagfiles by name: a file of the user's, or one that comes with the package."""

from pathlib import Path

# In an installed package, and in a checkout where links are not kept.
PACKAGE = Path(__file__).parents[2]
SHIPPED = (PACKAGE / "flagfiles", PACKAGE.parent / "experiments")


def find(name: str) -> str:
    """The path of a flagfile.

    Args:
        name: a path, or STUDY/FILE of one that comes with the package ("grid/quick.flags"; the
            "experiments/" that stands before it in a checkout may stay).

    Returns:
        The name itself where there is such a file, or no other.
    """
    if not Path(name).exists():
        for folder in SHIPPED:
            shipped = folder / name.removeprefix("experiments/")
            if shipped.is_file() and shipped.suffix == ".flags":
                return str(shipped)
    return name


def found(argv: list[str]) -> list[str]:
    """A command line in which every `--flagfile` has its path."""
    out, is_name = [], False
    for word in argv:
        flag, equals, name = word.partition("=")
        if is_name:
            word = find(word)
        elif equals and flag in ("--flagfile", "-flagfile"):
            word = f"{flag}={find(name)}"
        is_name = word in ("--flagfile", "-flagfile")
        out.append(word)
    return out
