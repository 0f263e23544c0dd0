"""Files and folders appear whole or not at all, and nothing that is not ours is ever deleted."""

import errno
import json
import os

import pytest

from LungRecoveryLib import files
from LungRecoveryLib.errors import BadInput, Cancelled
from LungRecoveryLib.files import atomic_directory, atomic_file, atomic_write_json, atomic_write_text


def tree(folder) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with its text; folders end in a slash."""
    return {
        str(p.relative_to(folder)) + ("/" if p.is_dir() else ""): "" if p.is_dir() else p.read_text()
        for p in sorted(folder.rglob("*"))
    }


def write_results(folder, mark: str, **options) -> None:
    with atomic_directory(folder, **options) as unfinished:
        (unfinished / "study.json").write_text(json.dumps({"schema": "lungrecovery-study-1", "mark": mark}))
        (unfinished / "figures").mkdir()
        (unfinished / "figures" / f"{mark}.png").write_text(mark)


def fail_half_way(target, error: BaseException, **options) -> None:
    with atomic_directory(target, **options) as unfinished:
        (unfinished / "half.txt").write_text("half")
        raise error


def refused(path, *words: str, **options) -> None:
    with pytest.raises(BadInput) as caught, atomic_directory(path, **options):
        pytest.fail("the work began although the output cannot be used")
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_a_folder_appears_under_its_name_only_when_the_work_is_done(tmp_path):
    target = tmp_path / "new" / "parents" / "study"
    with atomic_directory(target) as unfinished:
        (unfinished / "a.txt").write_text("a")
        assert not target.exists()
        assert unfinished.parent == target.parent  # so that the rename stays within one disk
    assert tree(tmp_path / "new") == {"parents/": "", "parents/study/": "", "parents/study/a.txt": "a"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, Cancelled, OSError])
def test_nothing_stays_when_the_work_fails(tmp_path, error):
    with pytest.raises(error):
        fail_half_way(tmp_path / "new" / "study", error())
    assert tree(tmp_path) == {}


def test_an_empty_folder_may_be_filled_and_stays_when_the_work_fails(tmp_path):
    (tmp_path / "study").mkdir()
    with pytest.raises(RuntimeError), atomic_directory(tmp_path / "study"):
        raise RuntimeError
    assert tree(tmp_path) == {"study/": ""}
    write_results(tmp_path / "study", "a")
    assert (tmp_path / "study" / "figures" / "a.png").exists()


def test_results_are_replaced_only_on_request_and_only_by_finished_ones(tmp_path):
    target = tmp_path / "study"
    write_results(target, "old")
    old = tree(tmp_path)
    refused(target, "--overwrite")
    with pytest.raises(KeyboardInterrupt):
        fail_half_way(target, KeyboardInterrupt(), overwrite=True)
    assert tree(tmp_path) == old
    with atomic_directory(target, overwrite=True) as unfinished:
        assert (target / "figures" / "old.png").exists()
        (unfinished / "study.json").write_text('{"schema": "lungrecovery-study-1"}')
    write_results(target, "new", overwrite=True)
    assert set(tree(tmp_path)) == {"study/", "study/figures/", "study/figures/new.png", "study/study.json"}


def test_overwriting_never_deletes_what_is_not_ours(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_text("jpg")
    refused(tmp_path / "photos", "no results of LungRecovery", overwrite=True)
    (tmp_path / "photos" / "study.json").write_text('{"another": "program"}')
    refused(tmp_path / "photos", "no results of LungRecovery", overwrite=True)
    home = tmp_path / "home"
    write_results(home / "me", "a")
    monkeypatch.setenv("HOME", str(home / "me"))
    refused(home / "me", "home folder", overwrite=True)
    write_results(tmp_path / "here", "a")
    monkeypatch.chdir(tmp_path / "here")
    refused(tmp_path / "here", "current folder", overwrite=True)
    refused(".", "current folder", overwrite=True)
    assert (tmp_path / "photos" / "holiday.jpg").exists()
    assert (tmp_path / "here" / "study.json").exists()


def test_a_folder_that_holds_an_input_is_not_replaced(tmp_path):
    write_results(tmp_path / "study", "a")
    refused(tmp_path / "study", "input", overwrite=True, inputs=[tmp_path / "study" / "figures" / "a.png"])
    write_results(tmp_path / "study", "b", overwrite=True, inputs=[tmp_path / "elsewhere.mha"])


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", "is a file")
    refused(tmp_path / "file" / "study", "cannot be created")
    refused(tmp_path / ("x" * 300), "cannot be")
    refused("", "empty")
    if os.access("/proc", os.F_OK):
        refused("/proc/study", "cannot be")
    assert tree(tmp_path) == {"file": "x"}


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", int)() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        refused(tmp_path / "study", "cannot be written")
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk_is_said_to_be_full(tmp_path):
    with pytest.raises(BadInput, match="disk is full"):
        fail_half_way(tmp_path / "study", OSError(errno.ENOSPC, "No space left on device"))
    assert tree(tmp_path) == {}


def test_a_folder_that_appeared_meanwhile_is_not_lost(tmp_path):
    target = tmp_path / "study"

    def another_program_writes():
        with atomic_directory(target):
            target.mkdir()
            (target / "theirs.txt").write_text("theirs")

    with pytest.raises(BadInput, match="not empty"):
        another_program_writes()
    assert tree(tmp_path) == {"study/": "", "study/theirs.txt": "theirs"}


def test_a_failed_exchange_brings_the_older_results_back(tmp_path, monkeypatch):
    target = tmp_path / "study"
    write_results(target, "old")
    old = tree(tmp_path)
    rename = files.Path.rename

    def fails_for_the_new(self, other):
        if "unfinished" in self.name:
            raise PermissionError(13, "a file in it is open")
        return rename(self, other)

    monkeypatch.setattr(files.Path, "rename", fails_for_the_new)
    with pytest.raises(BadInput, match="is in use"):
        write_results(target, "new", overwrite=True)
    assert tree(tmp_path) == old


def test_what_a_killed_process_left_is_removed(tmp_path):
    target = tmp_path / "a[1]"
    write_results(target, "old")
    generator = atomic_directory(target, overwrite=True)
    left = generator.__enter__()  # and never ended, as after SIGKILL
    (left / "half.txt").write_text("half")
    other = tmp_path / ".another.unfinished-12345678"
    other.mkdir()
    files.remove_unfinished(target)
    assert not left.exists()
    assert other.exists()
    assert (target / "study.json").exists()
    target.rename(tmp_path / ".a[1].replaced-12345678")  # killed between the two renames
    files.remove_unfinished(target)
    assert (target / "study.json").exists()


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "scores.csv"
    atomic_write_text(path, "old\n")

    def interrupted():
        with atomic_file(path) as unfinished:
            assert unfinished.name.endswith(path.name)  # writers choose the format by it
            unfinished.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert tree(tmp_path) == {"scores.csv": "old\n"}
    atomic_write_text(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    atomic_write_json(tmp_path / "a.json", {"a": [1.5, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        atomic_write_json(tmp_path / "a.json", {"a": float("nan")})


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        atomic_write_text(tmp_path / "missing" / "a.txt", "")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match="is a folder"):
        atomic_write_text(tmp_path / "folder", "")
