"""What the site shows of the repository beside its own pages, at the places where it lies there.

So a page links a picture, flagfile or notebook as it is, and nothing is kept twice.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
SHOWN = (
    "BUILD_NOTES.md",
    "LICENSE",
    "experiments/results/**/*.*",
    "experiments/*/*.flags",
    "experiments/notebooks/*.ipynb",
    "experiments/*/README.md",
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the pages of all studies into the navigation, behind those that it orders by name."""
    pages = Path(config.docs_dir)
    for section in config.nav or ():
        listed = section.get("Studies", []) if isinstance(section, dict) else []
        for page in sorted((pages / "studies").glob("*.md")) if listed else ():
            name = page.relative_to(pages).as_posix()
            if name not in listed:
                listed.append(name)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds them to the site's own files."""
    # Under its own name it would be the start page.
    files.append(File.generated(config, "overview.md", abs_src_path=str(ROOT / "README.md")))
    for path in sorted({path for pattern in SHOWN for path in ROOT.glob(pattern)}):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files
