"""The HTML around a page's data: markup, style and script, and what the browser may do with it."""

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from importlib.resources import files
from string import Template

from saejax.interpret.viewer.encoding import Study

# The script of an SAE's page is these files in this order.
SCRIPTS = ("data", "tokens", "charts", "notes", "list", "contexts", "feature", "main")
# These come before the script, so that it can show the list while the rest is still being read.
FIRST = ("meta", "summary", "vocabulary")


def asset(name: str) -> str:
    """A file of the folder assets."""
    return (files("saejax.interpret.viewer") / "assets" / name).read_text(encoding="utf-8")


def script(names: Sequence[str]) -> str:
    """Assets, named without .js, as one script whose names no other script can see."""
    code = "\n".join(asset(f"{name}.js") for name in names)
    return f"(() => {{\n'use strict';\n{code}\n}})();"


def text(value: str) -> str:
    """Text as markup; what UTF-8 cannot hold is a question mark."""
    return html.escape(value.encode("utf-8", "replace").decode("utf-8"))


def policy(style: str, code: str) -> str:
    """The content security policy of a page: this style, this script, no other, and no network."""
    return (
        f"default-src 'none'; script-src '{_digest(code)}'; style-src '{_digest(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def sae_page(name: str, blocks: Iterable[tuple[str, str]], study: Study) -> str:
    """The page of one SAE, with its data as `encoding.blocks` has it."""
    style, code = asset("style.css"), script(SCRIPTS)
    first, rest = [], []
    for block, content in blocks:
        # The browser reads no type that it does not know, so that this is data and nothing else.
        tag = f'<script type="application/octet-stream" id="{block}">{content}</script>'
        (first if block in FIRST else rest).append(tag)
    return Template(asset("page.html")).substitute(
        title=text(f"{name} - {study.title}"),
        policy=policy(style, code),
        style=style,
        script=code,
        first="\n".join(first),
        rest="\n".join(rest),
    )
