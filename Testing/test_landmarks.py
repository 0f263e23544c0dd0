"""Landmark files of every kind give the same LPS points, and a file that cannot be used is refused with its name."""

import json

import numpy as np
import pytest

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid
from LungRecoveryLib.landmarks import dirlab_grid, read_landmarks, read_points

BASELINE = np.array([[-36.5, -37.25, -1204.5], [12.0, 4.5, -1100.0], [80.25, -60.0, -950.75]])
FOLLOWUP = BASELINE + np.array([[5.0, -1.0, 30.5], [4.0, 2.0, 31.0], [3.5, 0.5, 28.25]])


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def rows(points, delimiter=","):
    return "\n".join(delimiter.join(str(v) for v in point) for point in points)


def markups(points, system="LPS", labels=None, **more):
    labels = labels or [f"F-{i + 1}" for i in range(len(points))]
    controls = [{"label": n, "position": list(p), **more} for n, p in zip(labels, points, strict=True)]
    node = {"type": "Fiducial", "coordinateSystem": system, "controlPoints": controls}
    return json.dumps({"markups": [node]})


def fcsv(points, system):
    lines = ["# Markups fiducial file version = 5.6", f"# CoordinateSystem = {system}"]
    lines.append("# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID")
    lines += [f"{i},{x},{y},{z},0,0,0,1,1,1,0,F-{i},," for i, (x, y, z) in enumerate(points)]
    return "\n".join(lines) + "\n"


RAS = np.array([-1.0, -1.0, 1.0])


def test_six_columns_hold_both_scans(tmp_path):
    header = "baseline_x,baseline_y,baseline_z,followup_x,followup_y,followup_z\n"
    path = write(tmp_path / "pairs.csv", header + rows(np.hstack([BASELINE, FOLLOWUP])))
    pairs = read_landmarks(path)
    np.testing.assert_allclose(pairs.fixed, BASELINE)
    np.testing.assert_allclose(pairs.moving, FOLLOWUP)


@pytest.mark.parametrize(
    "text",
    [
        rows(BASELINE),
        "x,y,z\n" + rows(BASELINE),
        "\ufeffx;y;z\n" + rows(BASELINE, ";").replace(".", ","),
        "label,x,y,z\n" + "\n".join(f"vessel {i},{rows([p])}" for i, p in enumerate(BASELINE)),
        "id,x,y,z\n" + "\n".join(f"{i},{rows([p])}" for i, p in enumerate(BASELINE)),
        "r,a,s\n" + rows(BASELINE * RAS),
        rows(BASELINE, "\t"),
        "# made by hand\n" + rows(BASELINE, " "),
    ],
    ids=["bare", "header", "semicolons and decimal commas", "names", "numbered", "RAS", "tabs", "blanks"],
)
def test_three_columns_hold_one_scan(tmp_path, text):
    np.testing.assert_allclose(read_points(write(tmp_path / "one.csv", text)).points, BASELINE)


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_markups_json_is_read_in_the_coordinate_system_it_names(tmp_path, system):
    points = BASELINE * RAS if system == "RAS" else BASELINE
    path = write(tmp_path / "F.mrk.json", markups(points, system))
    np.testing.assert_allclose(read_points(path).points, BASELINE)


def test_markups_json_without_a_coordinate_system_is_lps_as_in_slicer(tmp_path):
    content = json.loads(markups(BASELINE))
    del content["markups"][0]["coordinateSystem"]
    np.testing.assert_allclose(read_points(write(tmp_path / "F.mrk.json", json.dumps(content))).points, BASELINE)


@pytest.mark.parametrize(("system", "signs"), [("LPS", 1), ("1", 1), ("RAS", RAS), ("0", RAS)])
def test_fcsv_is_read_in_the_coordinate_system_it_names(tmp_path, system, signs):
    path = write(tmp_path / "F.fcsv", fcsv(BASELINE * signs, system))
    np.testing.assert_allclose(read_points(path).points, BASELINE)


def test_two_files_of_different_kinds_match_row_by_row(tmp_path):
    pairs = read_landmarks(write(tmp_path / "a.csv", rows(BASELINE)), write(tmp_path / "b.fcsv", fcsv(FOLLOWUP, "LPS")))
    np.testing.assert_allclose(pairs.moving - pairs.fixed, FOLLOWUP - BASELINE)


def test_points_with_the_same_names_in_another_order_match_by_name(tmp_path):
    fixed = write(tmp_path / "a.mrk.json", markups(BASELINE, labels=["a", "b", "c"]))
    moving = write(tmp_path / "b.mrk.json", markups(FOLLOWUP[[2, 0, 1]], labels=["c", "a", "b"]))
    np.testing.assert_allclose(read_landmarks(fixed, moving).moving, FOLLOWUP)


def test_two_dirlab_files_match_row_by_row(tmp_path):
    files = [
        write(tmp_path / f"case1_{phase}.txt", text)
        for phase, text in (("T00", "5 5 5\n9 8 7\n"), ("T50", "6 5 5\n9 9 7\n"))
    ]
    pairs = read_landmarks(*files)
    np.testing.assert_allclose(pairs.moving - pairs.fixed, [[0.97, 0, 0], [0, 0.97, 0]], atol=1e-9)
    assert pairs.moving_grid == dirlab_grid(1)


def test_dirlab_voxels_are_one_based_and_lie_on_the_images_oblique_grid(tmp_path):
    c, s = np.cos(0.3), np.sin(0.3)
    grid = Grid((20, 30, 40), (0.97, 1.1, 2.5), (-10.0, 20.0, -920.0), (c, -s, 0, s, c, 0, 0, 0, 1))
    path = write(tmp_path / "Case1_300_T00_xyz.txt", " 1\t 1\t 1\t\r\n 4\t 7\t 3\t\r\n")
    points = read_points(path, grid).points
    np.testing.assert_allclose(points[0], grid.origin)
    np.testing.assert_allclose(points[1], grid.points(np.array([[3.0, 6.0, 2.0]]))[0])


def test_dirlab_files_without_an_image_use_the_published_grid_of_their_case(tmp_path):
    path = write(tmp_path / "Case7_300_T50_xyz.txt", "1 1 1\n2 3 5\n")
    found = read_points(path)
    # x runs to the left, y to posterior, z from superior to inferior.
    np.testing.assert_allclose(found.points[1] - found.points[0], [0.97, 2 * 0.97, -4 * 2.5])
    assert found.grid == dirlab_grid(7)
    assert found.grid.size == (512, 512, 136)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("empty.csv", "", "no landmark"),
        ("header.csv", "x,y,z\n", "no landmark"),
        ("two.csv", "1,2\n3,4\n", "2 columns"),
        ("six.csv", "1,2,3,4,5,6\n", "6 columns"),
        ("hole.csv", "1,2,3\n4,,6\n", "row 2"),
        ("short.csv", "1,2,3\n4,5\n", "row 2"),
        ("nan.csv", "1,2,nan\n", "finite"),
        ("a.mrk.json", "{", "markups"),
        ("b.mrk.json", '{"markups": []}', "0 lists"),
        ("c.mrk.json", markups([[1, 2, 3]], "IJK"), "IJK"),
        ("d.mrk.json", markups([[1, 2, 3]], positionStatus="undefined"), "not been placed"),
        ("e.mrk.json", markups([[1, 2]]), "without a position"),
        ("f.mrk.json", "[1, 2]", "markups"),
        ("a.fcsv", fcsv([[1, 2, 3]], "2"), "LPS or RAS"),
        ("b.fcsv", fcsv([["one", 2, 3]], "LPS"), "three numbers"),
        ("case1.txt", "1 2\n", "three voxel numbers"),
        ("case2.txt", "1 2 x\n", "three voxel numbers"),
        ("case3.txt", "0 5 5\n", "outside the image"),
        ("case4.txt", "1 5 100\n", "outside the image"),
        ("case5.txt", "1.5 5 10\n", "fractions"),
        ("case11.txt", "1 5 10\n", "give the images"),
        ("copd1_300_iBH_xyz_r1.txt", "1 5 10\n", "give the images"),
        ("case6.txt", "", "no landmark"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_name(tmp_path, name, text, words):
    path = write(tmp_path / name, text)
    with pytest.raises(BadInput, match=words) as refused:
        read_points(path)
    assert name in str(refused.value)


def test_a_missing_or_binary_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"nowhere\.csv does not exist"):
        read_points(tmp_path / "nowhere.csv")
    (tmp_path / "ct.csv").write_bytes(b"\x80\x00\xff\xfe")
    with pytest.raises(BadInput, match=r"ct\.csv cannot be read as text"):
        read_points(tmp_path / "ct.csv")


def test_pairs_need_six_columns_or_two_files_of_one_length(tmp_path):
    one = write(tmp_path / "one.csv", rows(BASELINE))
    with pytest.raises(BadInput, match="3 columns"):
        read_landmarks(one)
    with pytest.raises(BadInput, match="one scan only"):
        read_landmarks(write(tmp_path / "F.fcsv", fcsv(BASELINE, "LPS")))
    with pytest.raises(BadInput, match=r"one\.csv has 3 points and two\.csv 2"):
        read_landmarks(one, write(tmp_path / "two.csv", rows(FOLLOWUP[:2])))


@pytest.mark.realdata
def test_the_real_pairs_landmarks_are_read(real_data):
    pairs = read_landmarks(real_data / "lung-followup-pair" / "landmarks_lps_mm.csv")
    assert pairs.fixed.shape == pairs.moving.shape == (26, 3)
    np.testing.assert_allclose(pairs.fixed[0], [-36.351, -36.974, -1204.5])
    np.testing.assert_allclose(pairs.moving[0], [-40.94, -47.022, -1169.5])
