"""The console command, flagfiles by name, and import paths of before."""

import importlib
import sys
import warnings

import pytest
from helpers.commands import ROOT

from saejax import __main__ as console
from saejax import _moved
from saejax.experiments.common import flagfiles


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["saejax", *arguments])
    console.main()


@pytest.mark.parametrize("arguments", [(), ("--help",), ("help",)], ids=str)
def test_without_a_command_it_lists_every_study_in_a_line(monkeypatch, capsys, arguments):
    run(monkeypatch, *arguments)
    lines = capsys.readouterr().out.splitlines()
    folders = [p.parent.name for p in (ROOT / "saejax/experiments").glob("*/__main__.py")]
    for name in (*folders, "report", "export"):
        (about,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert len(about) <= 120
        assert about.endswith((".", "?"))


def test_an_unknown_command_is_refused_with_those_there_are(monkeypatch):
    with pytest.raises(SystemExit, match=r"error: got the command 'gird', allowed: .*grid"):
        run(monkeypatch, "gird")


def test_a_study_gets_the_rest_of_the_line(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(
        console.runpy,
        "run_module",
        lambda module, **how: started.append((module, list(sys.argv), how)),
    )
    run(monkeypatch, "grid", "--flagfile=grid/quick.flags", "--steps=3")
    run(monkeypatch, "report", "runs/x")
    how = {"run_name": "__main__", "alter_sys": True}
    grid = ["saejax grid", "--flagfile=grid/quick.flags", "--steps=3"]
    assert started[0] == ("saejax.experiments.grid", grid, how)
    assert started[1] == ("saejax.report", ["saejax report", "runs/x"], how)


@pytest.mark.parametrize("name", ["grid/quick.flags", "experiments/grid/quick.flags"])
def test_a_shipped_flagfile_is_found_by_name_from_anywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    expected = (ROOT / "experiments/grid/quick.flags").read_text()
    for argv in ([f"--flagfile={name}"], ["--flagfile", name], [f"-flagfile={name}"]):
        (path,) = [word.rpartition("=")[2] for word in flagfiles.found(argv) if ".flags" in word]
        with open(path, encoding="utf-8") as file:
            assert file.read() == expected


def test_a_file_of_the_users_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "quick.flags").write_text("--steps=3\n")
    assert flagfiles.find("grid/quick.flags") == "grid/quick.flags"


@pytest.mark.parametrize("name", ["mine.flags", "../pyproject.toml", "grid/README.md", ""])
def test_what_is_no_shipped_flagfile_stays_as_it_is(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert flagfiles.find(name) == name


@pytest.mark.parametrize("old", sorted(_moved.MOVED))
def test_a_module_of_before_still_imports_and_says_where_it_is_now(old):
    path = f"saejax.{old}"
    for name in [m for m in sys.modules if m == path]:
        del sys.modules[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = importlib.import_module(path)
    assert [str(w.message).partition(" is now")[0] for w in caught if w.category is FutureWarning][
        -1:
    ] == [path]
    place = importlib.import_module(f"saejax.{_moved.MOVED[old][0]}")
    public = [name for name in vars(place) if not name.startswith("_")]
    assert getattr(module, public[0]) is getattr(place, public[0])
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_that_name'"):
        _ = module.nothing_of_that_name


@pytest.mark.parametrize(
    ("old", "name"),
    [
        ("data.imports", "import_arrays"),
        ("data.activations", "StoreSource"),
        ("data.store", "Store"),
        ("data.synthetic", "Synthetic"),
        ("data.firing", "Zipf"),
        ("architectures.base", "Architecture"),
        ("formats", "load"),
        ("sae", "encode"),
        ("hub", "upload"),
        ("recovery", "measure"),
        ("baselines", "fit"),
        ("devices", "over"),
        ("runlog", "load"),
        ("sweep", "Sweep"),
        ("published", "grid"),
        ("metrics", "mmcs"),
        ("metrics", "recovery"),
        ("sae", "kept_terms"),
        ("data.synthetic", "mean_active"),
        ("matching.dictionaries", "unit_rows"),
        ("checkpoint", "Checkpoints"),
        ("export", "export"),
        ("report", "figures"),
    ],
)
def test_what_the_documents_named_is_found_at_its_old_place(old, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert callable(getattr(importlib.import_module(f"saejax.{old}"), name))
