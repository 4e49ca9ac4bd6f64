import os

import pytest

from tfae.files import written_whole


def test_a_finished_block_gives_the_file_its_name(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with written_whole(path) as temporary:
        temporary.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert os.listdir(path.parent) == ["a.txt"]


def test_an_interrupted_block_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), written_whole(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_path_below_a_file_says_where_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match=r"cannot write in .*file.*Choose a directory"),
        written_whole(tmp_path / "file" / "a"),
    ):
        pass


def test_a_directory_is_refused_before_the_block_runs(tmp_path):
    with pytest.raises(IsADirectoryError, match=r"is a directory\. Give the name of a file"), written_whole(tmp_path):
        pytest.fail("the work was begun")
    assert os.listdir(tmp_path) == []


def test_a_read_only_directory_says_where_it_cannot_write(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tfae.files.mkstemp", refuse)  # root may write anywhere, so permissions would not show it
    with pytest.raises(OSError, match=r"cannot write in .*Read-only file system"), written_whole(tmp_path / "a"):
        pass


def test_a_full_disk_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match=r"no room for a\.txt.*Nothing was changed"), written_whole(path):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]
