"""Folders that are whole or absent."""

import pytest

from saejax.core.files import held, new_folder


def write(folder, text):
    with new_folder(folder) as part:
        (part / "a.txt").write_text(text)
        assert not folder.exists() or not list(folder.iterdir())


def test_a_folder_appears_when_it_is_whole(tmp_path):
    write(tmp_path / "below" / "new", "whole")
    assert (tmp_path / "below" / "new" / "a.txt").read_text() == "whole"
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "whole")
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        ["below", "new", "a.txt", "empty", "a.txt"]
    )


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    def fail():
        with new_folder(tmp_path / "new") as part:
            (part / "a.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_no_part_of_the_next(tmp_path):
    left = tmp_path / ".new.part.folder" / "new" / "old.txt"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    write(tmp_path / "new", "whole")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_what_is_in_the_way_is_refused_or_compared(tmp_path):
    write(tmp_path / "new", "first")
    with pytest.raises(FileExistsError, match="holds other files"):
        write(tmp_path / "new", "second")
    seen = []
    with new_folder(tmp_path / "new", compare=lambda part, path: seen.append(path)) as part:
        (part / "a.txt").write_text("second")
    assert seen == [tmp_path / "new"]
    assert (tmp_path / "new" / "a.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_second_writer_of_the_same_folder_is_refused(tmp_path):
    beside = tmp_path / ".new.part.folder"
    beside.mkdir()
    with held(beside):
        with pytest.raises(BlockingIOError, match="another process"):
            write(tmp_path / "new", "second")
        assert beside.exists()
    write(tmp_path / "new", "second")
