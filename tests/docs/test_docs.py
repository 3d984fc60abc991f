"""The documentation site: it builds, its commands parse, its links lead somewhere, its recipes
run."""

import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from helpers.commands import HERE, ROOT, parsing

import saejax

DOCS = ROOT / "experiments" / "docs"
PAGES = DOCS / "pages"
READMES = [ROOT / "README.md", *sorted(ROOT.glob("experiments/*/README.md"))]
TEXTS = [*sorted(PAGES.rglob("*.md")), *READMES]
FLAGFILES = sorted(ROOT.glob("experiments/*/*.flags"))
NEEDED = ("mkdocs", "material", "mkdocstrings", "mkdocstrings_handlers")
FENCE = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
AFTER_CHANGES = "With these changes"
CODE = [p for p in sorted(PAGES.rglob("*.md")) if "```python" in p.read_text(encoding="utf-8")]
CHANGING = [p for p in CODE if AFTER_CHANGES in p.read_text(encoding="utf-8")]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def blocks(page, language):
    """Title, first line and text of a page's fenced blocks."""
    text = page.read_text(encoding="utf-8")
    return [
        (m[2], text.count("\n", 0, m.start(3)), m[3])
        for m in FENCE.finditer(text)
        if m[1] == language
    ]


def new_files(page):
    """Path and text of every file that a page gives in full."""
    # A block that begins with the sign shows a file that is there. With a semicolon before it, the
    # site leaves it as it stands.
    return {
        m[2]: m[3].replace(";--8<--", "--8<--")
        for m in FENCE.finditer(page.read_text(encoding="utf-8"))
        if m[1] != "diff" and "/" in (m[2] or "") and not m[3].startswith("--8<--")
    }


def commands_in(text):
    """Module and arguments of every command of saejax in a page, or in the head of a flagfile."""
    text = re.sub(r"\\\n#?|\n#?\s+(?=--)", " ", text)
    found = re.findall(r"python -m (saejax(?:\.\w+)+)(?![\w.])((?: +[^\s\"'`#|&]+)*)", text)
    return [(module, shlex.split(arguments)) for module, arguments in found]


class Page(HTMLParser):
    """What a built page links, what it loads and which places it has."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.ids = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        self.ids |= {own[name] for name in ("id", "name") if own.get(name)}
        if tag == "a" and own.get("href"):
            self.links.append(own["href"])
        if own.get("src"):
            self.loaded.append(own["src"])
        if tag == "link" and own.get("href") and own.get("rel") != "canonical":
            self.loaded.append(own["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site: file -> page."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f'the site is built with {", ".join(missing)}: pip install -e ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", DOCS / "mkdocs.yml"]
    done = subprocess.run([*build, "-d", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}


def page_of(site, name):
    return next(page for path, page in site.items() if path.as_posix().endswith(name))


def test_every_public_name_has_an_entry_in_the_reference(site):
    page = page_of(site, "reference/saejax.html")
    assert [name for name in saejax.__all__ if f"saejax.{name}" not in page.ids] == []


def test_every_link_of_the_site_leads_somewhere(site):
    lost = []
    for path, page in site.items():
        if path.name == "404.html":
            continue
        for link in page.links + page.loaded:
            to = urlsplit(link)
            if to.scheme or to.netloc:
                continue
            target = (path.parent / unquote(to.path)).resolve() if to.path else path
            there = target.is_file() or (target / "index.html").is_file()
            if not there or (
                to.fragment and target in site and to.fragment not in site[target].ids
            ):
                lost.append((path.name, link))
    assert lost == []


def test_the_site_loads_nothing_from_the_network(site):
    assert {src for page in site.values() for src in page.loaded if urlsplit(src).netloc} == set()


@pytest.mark.parametrize("flagfile", FLAGFILES, ids=name_of)
def test_every_flagfile_is_shown_on_the_page_of_its_study(flagfile):
    shown = "\n".join(p.read_text(encoding="utf-8") for p in (PAGES / "studies").glob("*.md"))
    assert f'--8<-- "{name_of(flagfile)}"' in shown


@pytest.mark.parametrize("text", [*TEXTS, *FLAGFILES], ids=name_of)
def test_every_command_on_a_page_parses(text, tmp_path, monkeypatch):
    made_here = {file.partition("/__main__.py")[0].replace("/", ".") for file in new_files(text)}
    for module, arguments in commands_in(text.read_text(encoding="utf-8")):
        if module in made_here:
            continue  # the page runs it itself, with its changes
        if module.startswith("saejax.experiments."):
            monkeypatch.chdir(ROOT)
            with parsing(importlib.import_module(f"{module}.__main__")) as parse:
                assert parse(*arguments)[1:] == [], (module, arguments)
            continue
        # The others have no workdir here, and say so in one line once they have parsed what they
        # got.
        monkeypatch.chdir(tmp_path)
        name = f"{module}.__main__"
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(name).main()
        assert str(ended.value.code).startswith("error:"), (module, arguments)


def test_the_reader_of_commands_sees_them():
    page = "```bash\nA=1 python -m saejax.experiments.grid --flagfile=a.flags \\\n  --l1=1,2\n```\n"
    assert commands_in(page) == [("saejax.experiments.grid", ["--flagfile=a.flags", "--l1=1,2"])]
    head = (
        "# Command:  pip x && \\\n#   python -m saejax.experiments.toy3d\n#   --l1=1\n"
        "# Time:     2 s"
    )
    assert commands_in(head) == [("saejax.experiments.toy3d", ["--l1=1"])]
    assert commands_in(
        "`python -m saejax.report WORKDIR`, `python -m saejax.experiments.` ..."
    ) == [("saejax.report", ["WORKDIR"])]
    assert all(commands_in(f.read_text(encoding="utf-8")) for f in FLAGFILES)


@pytest.mark.parametrize("page", CODE, ids=name_of)
def test_the_code_on_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch, unchecked):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for title, line, code in blocks(page, "python"):
        if "jax.config.update" in code:  # of a process that has not computed anything yet
            subprocess.run([sys.executable, "-c", code], check=True)
        elif title != AFTER_CHANGES and title not in new_files(page):
            exec(compile("\n" * line + code, page, "exec"), names)


def apply(root, page):
    """Makes a page's changes in a copy of the library: each fits one place, or is a new file."""
    for file, text in new_files(page).items():
        path = root / file
        assert not path.exists(), f"{page.name}: {file} is there already"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for file, line, diff in blocks(page, "diff"):
        rows = diff.splitlines()
        before, after = (
            "".join(f"{row[1:]}\n" for row in rows if row[:1] != leave) for leave in ("+", "-")
        )
        path = root / file
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, (
            f"{page.name}, line {line}: fits {text.count(before)} places"
        )
        path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.mark.parametrize("page", CHANGING, ids=name_of)
def test_the_changes_on_a_page_do_what_it_says(page, tmp_path):
    shutil.copytree(
        ROOT / "saejax", tmp_path / "saejax", ignore=shutil.ignore_patterns("__pycache__")
    )
    apply(tmp_path, page)
    code = "\n".join(code for title, _, code in blocks(page, "python") if title == AFTER_CHANGES)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | HERE | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_study_touches_its_own_folder_its_flagfile_and_its_page_alone():
    page = PAGES / "recipes" / "study.md"
    own = r"saejax/experiments/rates/\w+\.py|experiments/rates/\w+\.flags"
    own += r"|experiments/docs/pages/studies/rates\.md"
    assert blocks(page, "diff") == []
    assert [file for file in new_files(page) if not re.fullmatch(own, file)] == []
    assert {file.rpartition(".")[2] for file in new_files(page)} == {"py", "flags", "md"}


def test_every_page_is_in_the_navigation():
    # Pages of studies are put there by the site's hooks.
    listed = (DOCS / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [p.relative_to(PAGES).as_posix() for p in PAGES.rglob("*.md")]
    assert [p for p in pages if p not in listed and not p.startswith("studies/")] == []
