"""Files and folders that appear whole or not at all: written beside their place under another name, then renamed."""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from LungRecoveryLib.errors import BadInput

MARKER_FILES = (
    "study.json",
    "registration.json",
    "rigid.json",
    "phantom.json",
    "segmentation.json",
    "cohort.json",
    "evaluation.json",
)
"""What a folder of results holds at its top; only such a folder is ever replaced."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)
_UNFINISHED = "unfinished"
_REPLACED = "replaced"


@contextmanager
def atomic_directory(path: str | Path, overwrite: bool = False, inputs: Iterable[str | Path] = ()) -> Iterator[Path]:
    """Yield a new folder beside `path`, which takes that name when the block ends and vanishes when it raises.

    Missing parents are created (and removed again on failure). With `overwrite` an existing folder of results (one
    with a file of `MARKER_FILES`) is replaced, and only once the block has ended well; it may hold none of `inputs`.

    Raises BadInput, before anything is written, where `path` is a file, is not empty without `overwrite`, is no
    folder of results, is or holds the current or the home folder, holds an input, or cannot be written.
    """
    target = _resolved(path)
    _check_replaceable(target, path, overwrite, inputs)
    made = _make_parents(target.parent, path)
    unfinished = _beside(target, _UNFINISHED)
    try:
        try:
            unfinished.mkdir()
        except OSError as error:
            raise BadInput(
                f"{path}: cannot be written ({error.strerror or error}); give an output in a writable folder"
            ) from error
        yield unfinished
        _put_in_place(unfinished, target, path, overwrite)
    except BaseException as error:  # Ctrl-C as well: nothing may stay behind
        shutil.rmtree(unfinished, ignore_errors=True)
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise BadInput(f"{path}: the disk is full; make room or give an output on another disk") from error
        raise


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a file name beside `path` with the same suffixes; what is written there takes the place of `path`.

    When the block raises, nothing stays and an existing `path` is left as it was. Raises BadInput where `path` cannot
    be written.
    """
    target = _resolved(path)
    if target.is_dir():
        raise BadInput(f"{path}: is a folder; give the name of a file")
    if not target.parent.is_dir():
        raise BadInput(f"{path}: its folder does not exist; create it first")
    unfinished = target.parent / f".{uuid.uuid4().hex[:8]}.{_UNFINISHED}.{target.name}"
    try:
        yield unfinished
        os.replace(unfinished, target)
    except OSError as error:
        raise BadInput(
            f"{path}: cannot be written ({error.strerror or error}); give a writable place with free space"
        ) from error
    finally:
        with suppress(OSError):  # a read-only disk, which cannot hold it either
            unfinished.unlink(missing_ok=True)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all; raises BadInput where it cannot be written."""
    with atomic_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")


def atomic_write_json(path: str | Path, content: object) -> None:
    """Write a JSON file (no NaN, no infinity) whole or not at all; raises BadInput where it cannot be written."""
    atomic_write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def copy_folder(source: Path, target: Path, without: Iterable[str] = ()) -> None:
    """Copy a folder but for what lies in it under the names in `without`; what goes wrong is raised as it is.

    `shutil.copytree` collects its errors into one that no longer says that the disk is full.
    """
    target.mkdir(parents=True, exist_ok=True)
    for item in sorted(source.iterdir()):
        if item.name in without:
            continue
        if item.is_dir():
            copy_folder(item, target / item.name)
        else:
            shutil.copyfile(item, target / item.name)


def remove_unfinished(path: str | Path) -> None:
    """Remove what a killed process left beside `path` in :func:`atomic_directory`; a finished `path` is not touched.

    A folder that was being replaced at that moment gets its name back.
    """
    target = _resolved(path)
    for left in target.parent.glob(f".{_glob_escaped(target.name)}.{_REPLACED}-*"):
        if target.exists():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.rename(target)
    for left in target.parent.glob(f".{_glob_escaped(target.name)}.{_UNFINISHED}-*"):
        shutil.rmtree(left, ignore_errors=True)


def is_results_folder(path: str | Path) -> bool:
    """Whether a folder holds results of this project: one of `MARKER_FILES` that names it."""
    for name in MARKER_FILES:
        with suppress(OSError, UnicodeDecodeError):
            if "lungrecovery" in (Path(path) / name).read_text(encoding="utf-8").lower():
                return True
    return False


def _resolved(path: str | Path) -> Path:
    """The absolute path behind links; raises BadInput for an empty one."""
    if not str(path).strip():
        raise BadInput("the output is empty; give the name of a file or folder to write")
    return Path(os.path.realpath(path))


def _glob_escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _beside(target: Path, why: str) -> Path:
    return target.parent / f".{target.name}.{why}-{uuid.uuid4().hex[:8]}"


def _check_replaceable(target: Path, path: str | Path, overwrite: bool, inputs: Iterable[str | Path]) -> None:
    """Raise BadInput unless a folder may come to lie at `target`, possibly in place of an older one."""
    if not os.path.exists(target):  # False, and no error, for names the system cannot have
        return
    if not target.is_dir():
        raise BadInput(f"{path}: is a file; give a folder for the results")
    for here, what in ((Path.cwd(), "current"), (Path.home(), "home")):
        if target == here or target in here.parents:
            raise BadInput(f"{path}: is or holds the {what} folder; give a folder of its own for the results")
    if not os.access(target, os.R_OK | os.X_OK):
        raise BadInput(f"{path}: cannot be read; give another folder for the results")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise BadInput(f"{path}: exists and is not empty; give another folder or --overwrite")
    if not is_results_folder(target):
        raise BadInput(f"{path}: holds files that are no results of LungRecovery, so it is not overwritten")
    for given in inputs:
        if target in Path(os.path.realpath(given)).parents:
            raise BadInput(f"{path}: holds the input {given}, so it is not overwritten; give another folder")


def _make_parents(folder: Path, path: str | Path) -> list[Path]:
    """Create a folder and its parents; returns those that were missing, outermost first."""
    missing = [f for f in (folder, *folder.parents) if not os.path.exists(f)][::-1]
    made: list[Path] = []
    try:
        for new in missing:
            new.mkdir()
            made.append(new)
        if not folder.is_dir():
            raise NotADirectoryError(20, "its parent is not a folder")
    except OSError as error:
        for new in reversed(made):
            with suppress(OSError):
                new.rmdir()
        raise BadInput(
            f"{path}: cannot be created ({error.strerror or error}); give an output in a writable folder"
        ) from error
    return made


def _put_in_place(unfinished: Path, target: Path, path: str | Path, overwrite: bool) -> None:
    """Rename the finished folder to its name; the older one moves aside first and comes back if that fails.

    Another run may do the same at the same moment: the later one then replaces the earlier one's folder, or is refused.
    """
    replaced: list[Path] = []
    try:
        while unfinished.exists():
            with suppress(FileNotFoundError):  # moved aside by the other run in between
                if target.exists():
                    _check_replaceable(target, path, overwrite, ())
                    aside = _beside(target, _REPLACED)
                    target.rename(aside)
                    replaced.append(aside)
            try:
                unfinished.rename(target)
            except OSError as error:
                if error.errno not in _OCCUPIED:
                    raise
    except PermissionError as error:  # as Windows says of open files
        raise BadInput(
            f"{path}: is in use; close the programs that show files in it, or give another folder"
        ) from error
    finally:
        for aside in reversed(replaced):
            with suppress(OSError):  # the other run's folder is there by now
                if not target.exists():
                    aside.rename(target)
            if target.exists():
                shutil.rmtree(aside, ignore_errors=True)
