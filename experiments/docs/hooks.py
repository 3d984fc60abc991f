"""What the site shows of the repository beside its own pages, and how links lead there.

Texts link as the repository lies, so that they read on its own site too: relative to the file, or
in the README (which package indexes show as well) by the repository's address. On this site the
files lie elsewhere, and the links follow them.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
SHOWN = (
    "BUILD_NOTES.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "experiments/results/**/*.*",
    "experiments/*/*.flags",
    "experiments/notebooks/*.ipynb",
    "experiments/*/README.md",
)
AT_HOME = re.compile(
    r"https://(?:raw\.githubusercontent\.com/saejax/saejax|github\.com/saejax/saejax/(?:blob|tree))/main/"
)
LINK = re.compile(r"(?<=\]\()([^)\s#]+)")


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


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with its links to files of the repository as links of the site."""
    # Keyed by where a file lies in the repository.
    places = {
        str(Path(file.abs_src_path).resolve()): file.src_uri for file in files if file.abs_src_path
    }
    here = Path(str(page.file.abs_src_path)).parent

    def of_the_site(link: re.Match[str]) -> str:
        target, is_ours = AT_HOME.subn("", link[0])
        place = places.get(str(((ROOT if is_ours else here) / target).resolve()))
        if place is None:
            return link[0]
        return posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(of_the_site, markdown)
