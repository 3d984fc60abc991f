"""The wheel: flagfiles and published numbers are in it, and it runs outside of the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from helpers.commands import HERE, ROOT

LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "runs", "*.egg-info", "__pycache__")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What a wheel that is built from the checkout unpacks to."""
    backend = pytest.importorskip("setuptools.build_meta", reason="builds with setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=LEFT_OUT)
    code = f"import setuptools.build_meta as b; print(b.build_wheel({str(folder)!r}))"
    build = [sys.executable, "-c", code]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert backend
    with zipfile.ZipFile(folder / done.stdout.split()[-1]) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_flagfiles_and_published_numbers_are_shipped(installed):
    shipped = {p.relative_to(installed).as_posix() for p in installed.rglob("*") if p.is_file()}
    for path in sorted(ROOT.glob("experiments/*/*.flags")):
        name = path.relative_to(ROOT / "experiments").as_posix()
        assert f"saejax/flagfiles/{name}" in shipped
    for path in [*ROOT.glob("saejax/**/*.json"), *ROOT.glob("saejax/**/assets/*")]:
        assert path.relative_to(ROOT).as_posix() in shipped
    assert not {name for name in shipped if name.endswith((".png", ".ipynb", ".md"))}
    (entry,) = installed.glob("*.dist-info/entry_points.txt")
    assert "saejax = saejax.__main__:main" in entry.read_text()


def test_it_plans_the_quick_grid_outside_of_the_checkout(installed, tmp_path):
    command = [sys.executable, "-m", "saejax", "grid", "--flagfile=grid/quick.flags"]
    done = subprocess.run(
        [*command, "--steps=200", "--ratio=1", "--seeds=0", "--l1=0.1", "--workdir=run"],
        cwd=tmp_path,
        env=os.environ | HERE | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "report: run/report.html" in done.stdout
    assert (tmp_path / "run" / "report.html").exists()
    # The published maps are beside ours, so they were found.
    assert list((tmp_path / "run" / "figures").glob("heatmap_*.png"))
