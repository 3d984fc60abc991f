"""The command line: `saejax STUDY --flagfile=...`, `saejax report`, `saejax export`."""

import ast
import runpy
import sys
from importlib import resources

OTHERS = {
    "report": "Draws the figures and the page of a workdir again.",
    "export": "Writes the SAEs of a workdir as folders that other libraries open.",
}


def studies() -> dict[str, str]:
    """Name and question of every study: each folder of `saejax.experiments` with a command."""
    found = {}
    for folder in resources.files("saejax").joinpath("experiments").iterdir():
        command = folder.joinpath("__main__.py")
        if command.is_file():
            about = ast.get_docstring(ast.parse(command.read_text(encoding="utf-8"))) or ""
            found[folder.name] = about.partition("\n")[0]
    return dict(sorted(found.items()))


def main() -> None:
    """Runs a study, or says what there is."""
    asked, known = sys.argv[1:2], studies()
    if asked and asked[0] in known:
        module = f"saejax.experiments.{asked[0]}"
    elif asked and asked[0] in OTHERS:
        module = f"saejax.{asked[0]}"
    elif not asked or asked[0] in ("help", "-h", "--help"):
        rows = [f"  {name:<12}{about}" for name, about in [*known.items(), *OTHERS.items()]]
        print("usage: saejax COMMAND ..., with --help for the flags of one\n", *rows, sep="\n")
        return
    else:
        sys.exit(f"error: got the command {asked[0]!r}, allowed: {', '.join([*known, *OTHERS])}")
    sys.argv[:2] = [f"saejax {asked[0]}"]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
