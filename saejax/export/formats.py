"""One SAE as a folder that other libraries open: SAELens's layout, and dictionary_learning's.

    from saejax.export import formats
    formats.save(sae, "my-sae")  # sae_lens.SAE.load_from_disk("my-sae") reconstructs alike
    sae = formats.load("my-sae")  # of either format, whoever wrote it

Nothing in a folder is ever run: weights are read as numbers alone.
"""

from pathlib import Path

from saejax.core.checks import check_choice
from saejax.core.files import new_folder
from saejax.export import dictionary_learning, saelens
from saejax.sae.trained import SAE

FORMATS = {"saelens": saelens, "dictionary_learning": dictionary_learning}

__all__ = ["FORMATS", "check_format", "load", "save"]


def check_format(format: str) -> str:
    """The name of a format; ValueError for any other."""
    return check_choice("format", format, ", ".join(FORMATS), tuple(FORMATS))


def save(sae: SAE, folder: str | Path, format: str = "saelens") -> Path:
    """Writes an SAE as a folder, which is whole or absent, and returns its path.

    Args:
        sae: the SAE.
        folder: new or empty.
        format: "saelens" (`saejax.export.saelens`) or "dictionary_learning"
            (`saejax.export.dictionary_learning`), whose docstrings say what changes on the way.

    Raises:
        ValueError: for an unknown format, and an SAE that the format has no words for.
        FileExistsError: when the folder holds something.
        ImportError: naming the package that the format needs.
    """
    layout, path = FORMATS[check_format(format)], Path(folder)
    with new_folder(path) as part:
        layout.save(sae, part)
    return path


def load(folder: str | Path) -> SAE:
    """Reads an SAE from a folder of either format, by the names of its files.

    Raises:
        FileNotFoundError: naming the files that are missing.
        ValueError: naming the file and what in it is damaged, or cannot be told in saejax's terms.
        ImportError: naming the package that the format needs.
    """
    path = Path(folder)
    present = {
        name: [file for file in layout.FILES if (path / file).is_file()]
        for name, layout in FORMATS.items()
    }
    whole = [name for name, layout in FORMATS.items() if len(present[name]) == len(layout.FILES)]
    if len(whole) == 1:
        return FORMATS[whole[0]].load(path)
    allowed = "; or ".join(f"{' and '.join(f.FILES)} ({name})" for name, f in FORMATS.items())
    got = f"folder: got {str(path)!r} with"
    if whole:
        raise ValueError(f"{got} files of both formats, allowed: {allowed}")
    files = [file for found in present.values() for file in found]
    names = " and ".join(files) or "no file of an SAE"
    raise FileNotFoundError(f"{got} {names}, allowed: {allowed}")
