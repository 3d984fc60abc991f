"""Links of the documents lead somewhere in the repository; their sizes and the version hold."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

import saejax

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "experiments" / "docs" / "pages"
TOP = ("README.md", "BUILD_NOTES.md", "CHANGELOG.md")
TEXTS = [*(ROOT / name for name in TOP), *sorted((ROOT / "experiments").rglob("*.md"))]
FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
AT_HOME = re.compile(
    r"https://(?:raw\.githubusercontent\.com/saejax/saejax/main"
    r"|github\.com/saejax/saejax/(?:blob|tree|raw)/main)(?:/|$)"
)
# Where the documentation site shows what is elsewhere in the repository.
OF_THE_SITE = {"overview.md": "README.md"}


def without_code(path):
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def links(path):
    """Every link of a text, pictures among them."""
    return [first or second for first, second in LINK.findall(without_code(path))]


def slug(heading):
    """The anchor of a heading, as its host makes it."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"\{.*\}", "", heading))
    return re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")


@cache
def anchors(path):
    text = without_code(path)
    own = re.findall(r'(?:id="|\{ ?#)([\w.\-]+)', text)
    return {*own, *(slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE))}


def places(text, link):
    """The files that a link may mean; None where it leaves the repository."""
    target, is_ours = AT_HOME.subn("", link)
    if not is_ours and re.match(r"\w+:", link):
        return None
    name = unquote(target.partition("#")[0])
    if not name and not is_ours:
        return [text]
    found = [(ROOT if is_ours else text.parent) / name]
    if PAGES in text.parents:
        # The site shows files of the repository at the places where they are below its root.
        of_the_site = (text.parent / name).resolve()
        if of_the_site.is_relative_to(PAGES):
            inside = of_the_site.relative_to(PAGES).as_posix()
            found.append(ROOT / OF_THE_SITE.get(inside, inside))
    return [path.resolve() for path in found]


def lost(text, link):
    """Whether a link leads nowhere."""
    may_be = places(text, link)
    if may_be is None:
        return False
    there = [path for path in may_be if path.exists() and path.is_relative_to(ROOT)]
    anchor = link.partition("#")[2]
    if not there or not anchor or there[0].suffix != ".md":
        return not there
    return anchor not in anchors(there[0])


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(text):
    assert [link for link in links(text) if lost(text, link)] == []


def test_lost_links_are_seen():
    readme, page = ROOT / "README.md", PAGES / "studies" / "grid.md"
    home = "https://github.com/saejax/saejax/blob/main/"
    assert [lost(readme, link) for link in ("NONE.md", "#none", f"{home}NONE.md")] == [True] * 3
    assert lost(readme, f"{home}BUILD_NOTES.md#none")
    assert lost(page, "../../../NONE.md")
    assert not lost(readme, f"{home}BUILD_NOTES.md#decisions")
    assert not lost(page, "../overview.md#the-studies")
    assert not lost(readme, "https://example.com/none")
    assert slug("How it is `fast`, [here](x.md)") == "how-it-is-fast-here"


def test_pictures_of_the_readme_show_outside_of_the_repository():
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", without_code(ROOT / "README.md"))
    raw = "https://raw.githubusercontent.com/saejax/saejax/main/"
    assert [picture for picture in pictures if not picture.startswith(raw)] == []
    assert [link for link in links(ROOT / "README.md") if not re.match("https:", link)] == []


@pytest.mark.parametrize(("name", "most"), [("README.md", 9_000), ("BUILD_NOTES.md", 15_000)])
def test_documents_stay_short(name, most):
    assert (ROOT / name).stat().st_size < most


def test_the_citation_names_the_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall("^version: (.*)$", text, re.MULTILINE) == [saejax.__version__]


def test_no_text_names_a_place_of_a_module_that_is_gone():
    """Paths like `saejax/data/store/reader.py` in the texts lead to files."""
    for text in TEXTS:
        named = re.findall(r"`(saejax/[a-z0-9_/]+\.(?:py|json))`", text.read_text(encoding="utf-8"))
        assert [path for path in named if not (ROOT / path).is_file()] == [], text.name
