"""The command that exports a workdir."""

import subprocess
import sys

import pytest
from helpers.commands import HERE, ROOT
from helpers.exported import FROZEN, rows

from saejax.export import command

# ---------------------------------------------------------------------------------------- the
# command


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "saejax.export", *map(str, arguments)],
        cwd=ROOT,
        env=__import__("os").environ | HERE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_exports_a_workdir(workdir):
    done = run(workdir, "--format=saelens", "--where", "l1=0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"skipped {FROZEN}: frozen as not finite",
        f"3 SAEs written: {workdir / 'export-saelens'}",
    ]
    assert len(rows(workdir / "export-saelens")) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format=onnx"], "error: format: got 'onnx', allowed: saelens, dictionary_learning"),
        (["--where=l1"], "error: where: got 'l1', allowed: axis=value,axis=value, each axis once"),
        (
            ["--private"],
            "error: private: got it without --upload, allowed: with --upload=OWNER/NAME",
        ),
        (["--upload=mine"], "error: repo_id: got 'mine', allowed: OWNER/NAME"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(
    arguments, message, workdir, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["export", str(workdir), *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == message
    assert not [p for p in workdir.iterdir() if "export" in p.name]


def test_the_command_uploads_what_it_has_written(workdir, monkeypatch, capsys):
    asked = []

    def upload(folder, repo_id, private):
        asked.append((folder, repo_id, private))
        return "https://hub/mine"

    monkeypatch.setattr(command.hub, "upload", upload)
    for _ in range(2):  # an upload that failed is asked for again
        monkeypatch.setattr(sys, "argv", ["export", str(workdir), "--upload=me/saes", "--private"])
        command.main()
    assert asked == [(workdir / "export-saelens", "me/saes", True)] * 2
    out = capsys.readouterr().out
    assert "5 SAEs written" in out
    assert "5 SAEs are there already" in out
    assert out.endswith("https://hub/mine\n")
