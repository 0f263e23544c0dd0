"""A full disk, a read-only one, and two runs into one folder: one sentence, and nothing half-written."""

import json
import os
import threading

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.files import atomic_directory, atomic_write_json
from LungRecoveryLib.images import write_image, write_transform
from LungRecoveryLib.job import job_from
from LungRecoveryLib.study import analyze


def noise(size: int) -> sitk.Image:
    """An image that does not compress."""
    return sitk.GetImageFromArray(np.random.default_rng(0).integers(-1000, 1000, (size,) * 3).astype(np.int16))


def test_a_full_disk_leaves_nothing(small_disk):
    """The second image does not fit: the folder is gone, and the sentence says why."""
    disk = small_disk(2)

    def write() -> None:
        with atomic_directory(disk / "study") as folder:
            write_image(noise(64), folder / "first.nii.gz")
            write_image(noise(128), folder / "second.nii.gz")

    with pytest.raises(BadInput, match="disk"):
        write()
    assert list(disk.iterdir()) == []
    with pytest.raises(BadInput):
        write_image(noise(128), disk / "alone.nii.gz")
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize("ending", ["h5", "tfm"])
def test_a_transform_is_not_cut_short_by_a_full_disk(small_disk, ending):
    """Which ITK does without a word where the transform is written as text."""
    disk = small_disk(1)
    field = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(40, 40, 40, 3)), isVector=True)
    with pytest.raises(BadInput, match="disk"):
        write_transform(sitk.DisplacementFieldTransform(field), disk / f"a.{ending}")
    assert list(disk.iterdir()) == []
    write_transform(sitk.Euler3DTransform(), disk / f"a.{ending}")
    assert sitk.ReadTransform(str(disk / f"a.{ending}")).GetParameters() == (0.0,) * 6


def test_a_full_disk_keeps_the_earlier_file(small_disk):
    """A text that does not fit leaves the one before it."""
    disk = small_disk(1)
    atomic_write_json(disk / "study.json", {"earlier": True})
    with pytest.raises(BadInput):
        atomic_write_json(disk / "study.json", {"later": "x" * 3_000_000})
    assert json.loads((disk / "study.json").read_text(encoding="utf-8")) == {"earlier": True}
    assert [file.name for file in disk.iterdir()] == ["study.json"]


def test_a_read_only_disk_is_refused_before_the_work(small_disk):
    """Before any scan is read: the paths of the job do not even exist."""
    disk = small_disk(1, read_only=True)
    content = {"timepoints": [{"path": "none.mha"}, {"path": "none2.mha"}], "output": str(disk / "study")}
    with pytest.raises(BadInput, match="writable"):
        analyze(job_from(content))
    for write, thing in ((write_image, noise(8)), (write_transform, sitk.TranslationTransform(3))):
        with pytest.raises(BadInput):
            write(thing, disk / ("a.nii.gz" if write is write_image else "a.h5"))


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_runs_into_one_folder_leave_one_whole_result(tmp_path, overwrite):
    """Both write at once; the folder holds the files of one of them, and the other was told or replaced."""
    ready = threading.Barrier(2)
    refused = []

    def run(name: str) -> None:
        try:
            with atomic_directory(tmp_path / "out", overwrite) as folder:
                (folder / "study.json").write_text('{"of": "lungrecovery"}', encoding="utf-8")
                ready.wait()
                for number in range(20):
                    (folder / f"{name}{number}").write_text(name, encoding="utf-8")
        except BadInput as error:
            refused.append(str(error))

    runs = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    names = {file.name[0] for file in (tmp_path / "out").iterdir() if file.name != "study.json"}
    assert len(names) == 1
    assert len(list((tmp_path / "out").iterdir())) == 21
    assert len(refused) <= 1
    assert overwrite or len(refused) == 1
    assert os.listdir(tmp_path) == ["out"]
