"""DIR-Lab, imitated: raw images in the published geometry, landmarks under all their names."""

import numpy as np
import pytest

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, grid_of, to_array
from LungRecoveryLib.images import read_scan
from LungRecoveryLib.landmarks import read_points
from LungRecoveryTrainingLib.datasets import LAYOUTS, prepare
from LungRecoveryTrainingLib.datasets import dirlab as dirlab_layout

NO_MASKS = {"masks": False}


@pytest.fixture
def small_grids(monkeypatch):
    """DIR-Lab's grids made small; the published ones are checked by themselves."""
    direction = dirlab_layout.dirlab_grid(1).direction
    monkeypatch.setattr(
        dirlab_layout, "dirlab_grid", lambda case: Grid((28, 24, 12), (9.0, 9.0, 2.5), (0.0,) * 3, direction)
    )
    monkeypatch.setattr(dirlab_layout, "_COPDGENE", {case: (12, 0.6) for case in range(1, 11)})
    monkeypatch.setattr(
        dirlab_layout, "copdgene_grid", lambda case: Grid((28, 24, 12), (9.0, 9.0, 2.5), (0.0,) * 3, direction)
    )


def raw(path, array):
    """Write HU as DIR-Lab stores them, the scan's outside as -2000."""
    stored = array.astype(np.int32) + 1024
    stored[:, 0, 0] = -2000
    path.parent.mkdir(parents=True, exist_ok=True)
    stored.astype("<i2").tofile(path)


@pytest.fixture
def packs(tmp_path, chest, small_grids):
    """Ten cases of 4DCT with the names that vary from packet to packet, T00 to T50."""
    for case in range(1, 11):
        pack = tmp_path / (f"Case{case}Pack" if case != 8 else "Case8Pack/Case8Deploy")
        ending = "_s" if case == 1 else "-ssm" if case < 6 else ""
        for phase in range(0, 60, 10):
            raw(pack / "Images" / f"case{case}_T{phase:02d}{ending}.img", chest)
            (pack / "Sampled4D").mkdir(exist_ok=True)
            (pack / "Sampled4D" / f"case{case}_4D-75_T{phase:02d}.txt").write_text(
                "2.000000\t3.000000\t4.000000\n" * 75
            )
        name = f"Case{case}_300" if case < 6 else f"case{case}_dirLab300"
        folder = pack / ("ExtremePhases" if case < 6 else "extremePhases")
        folder.mkdir()
        for phase in ("00", "50"):
            (folder / f"{name}_T{phase}_xyz.txt").write_text(" 1\t 1\t 1\n" * 299 + " 28\t24\t12\n")
    return tmp_path


def test_dirlab_4dct(packs, chest, by_time):
    """Raw images become HU on the published grid, head first; landmark (1, 1, 1) is the first voxel's centre."""
    rows = by_time(prepare("dirlab-4dct", packs, **NO_MASKS))
    assert set(rows) == {(f"case{case}", phase) for case in range(1, 11) for phase in (0.0, 50.0)}
    row = rows["case8", 50.0]
    assert row.split == "test"
    image = read_scan(row.image).image
    expected = chest.copy()
    expected[:, 0, 0] = -1024
    assert np.array_equal(to_array(image), expected)
    points = read_points(row.landmarks, grid_of(image)).points
    assert points.shape == (300, 3)
    assert points[0] == pytest.approx([0, 0, 0])
    assert points[-1] == pytest.approx([27 * 9.0, 23 * 9.0, -11 * 2.5])
    before = row.image.stat().st_mtime_ns
    phases = by_time(prepare("dirlab-4dct", packs, phases="exhalation", **NO_MASKS))
    assert {phase for _, phase in phases} == {0, 10, 20, 30, 40, 50}
    assert len(read_points(phases["case3", 20.0].landmarks, grid_of(image)).points) == 75
    assert row.image.stat().st_mtime_ns == before  # what was converted is kept


def test_dirlab_4dct_incomplete(packs):
    """Missing files, files of another size and values that are no HU + 1024 are named; cases can be left out."""
    (packs / "Case2Pack" / "Images" / "case2_T50-ssm.img").unlink()
    with pytest.raises(BadInput, match=r"1 files are missing: case2_T50_s\.img"):
        prepare("dirlab-4dct", packs, **NO_MASKS)
    (packs / "Case2Pack" / "Images" / "case2_T00-ssm.img").unlink()
    assert len(prepare("dirlab-4dct", packs, partial=True, **NO_MASKS).rows) == 18
    short = packs / "Case1Pack" / "Images" / "case1_T10_s.img"
    short.write_bytes(short.read_bytes()[:-2])
    with pytest.raises(BadInput, match=r"case1_T10_s.img: has 16126 bytes, not 16128 for 28 x 24 x 12 voxels"):
        prepare("dirlab-4dct", packs, phases="exhalation", partial=True, **NO_MASKS)
    with pytest.raises(BadInput, match="no phases 'all'"):
        prepare("dirlab-4dct", packs, phases="all", **NO_MASKS)


def test_dirlab_without_offset(packs, chest):
    """An image in plain HU, without the offset that DIR-Lab stores, is refused, not shifted into nonsense."""
    chest.astype("<i2").tofile(packs / "Case1Pack" / "Images" / "case1_T00_s.img")
    with pytest.raises(BadInput, match=r"case1_T00_s\.img: is not in Hounsfield units"):
        prepare("dirlab-4dct", packs, **NO_MASKS)


def test_dirlab_copdgene(tmp_path, chest, small_grids, by_time):
    """Inhaled is the baseline, exhaled the follow-up; landmarks outside the image are refused."""
    for case in range(1, 11):
        folder = tmp_path / f"copd{case}" / f"copd{case}"
        for breath in ("iBH", "eBH"):
            raw(folder / f"copd{case}_{breath}CT.img", chest)
            (folder / f"copd{case}_300_{breath}_xyz_r1.txt").write_text("5 6 7\n" * 300)
    rows = by_time(prepare("dirlab-copdgene", tmp_path, **NO_MASKS))
    assert len(rows) == 20
    assert "iBH" in rows["copd10", 0.0].landmarks.name
    assert "eBH" in rows["copd10", 1.0].landmarks.name
    (tmp_path / "copd1" / "copd1" / "copd1_300_eBH_xyz_r1.txt").write_text("5 6 13\n" * 300)
    with pytest.raises(BadInput, match=r"copd1_300_eBH_xyz_r1\.txt has landmarks outside the image"):
        prepare("dirlab-copdgene", tmp_path, **NO_MASKS)


def test_published_grids():
    """Sizes and spacings as published: 512 x 512 pixels of 0.586 to 0.742 mm in 102 to 135 slices of 2.5 mm."""
    grids = {case: dirlab_layout.copdgene_grid(case) for case in range(1, 11)}
    assert {g.size[:2] for g in grids.values()} == {(512, 512)}
    assert [g.size[2] for g in grids.values()] == [121, 102, 126, 126, 131, 119, 112, 115, 116, 135]
    assert [g.spacing[0] for g in grids.values()] == [
        0.625,
        0.645,
        0.652,
        0.59,
        0.647,
        0.633,
        0.625,
        0.586,
        0.664,
        0.742,
    ]
    assert {g.spacing[2] for g in grids.values()} == {2.5}


@pytest.mark.realdata
def test_real_dirlab_landmarks(real_data, tmp_path, monkeypatch):
    """The published landmark files of all ten cases are found and read; the images alone are imitated."""
    monkeypatch.setattr(dirlab_layout, "_converted", lambda raw, grid, target, download: raw)
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "landmarks").symlink_to(real_data / "dirlab-4dct-landmarks", target_is_directory=True)
    for path in (real_data / "dirlab-4dct-landmarks").rglob("*.txt"):
        (folder / path.name).write_bytes(path.read_bytes())
    for case in range(1, 11):
        for phase in range(0, 60, 10):
            (folder / f"case{case}_T{phase:02d}.img").write_bytes(b"0")
    assert len(LAYOUTS["dirlab-4dct"].rows(folder, tmp_path, masks=False)) == 20
    assert len(LAYOUTS["dirlab-4dct"].rows(folder, tmp_path, masks=False, phases="exhalation")) == 60
