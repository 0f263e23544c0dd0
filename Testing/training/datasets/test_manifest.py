"""Manifests come back as they were written, pair scans as they should, and say what is wrong with them."""

import json

import pytest

from LungRecoveryLib.errors import BadInput
from LungRecoveryTrainingLib.datasets import Row, read_manifest, write_manifest


@pytest.fixture
def rows(tmp_path, write_ct):
    """Two patients: one with scans at days 0, 30 and 90 and truth for day 30, one with a single scan."""
    image = write_ct(tmp_path / "scans" / "a.nii.gz")
    points = tmp_path / "points.csv"
    points.write_text("x,y,z\n1,2,3\n")
    return [
        Row("b", 30.0, image, displacement=image, split="val"),
        Row("b", 0.0, image, mask=image, landmarks=points, split="val"),
        Row("b", 90.0, image, split="val"),
        Row("a", 0.0, image, labels=image),
    ]


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.json"])
def test_what_is_written_comes_back(tmp_path, tmp_path_factory, rows, name):
    """Both formats keep every field, with paths relative to the manifest, so that the folder can move."""
    write_manifest(rows, tmp_path / name)
    assert str(tmp_path) not in (tmp_path / name).read_text()
    moved = tmp_path.rename(tmp_path_factory.mktemp("moved") / "here")
    found = read_manifest(moved / name)
    assert [(r.subject, r.timepoint, r.split) for r in found.rows] == [(r.subject, r.timepoint, r.split) for r in rows]
    for row, original in zip(found.rows, rows, strict=True):
        assert {c: p.relative_to(moved) for c, p in row.files.items()} == {
            c: p.relative_to(tmp_path) for c, p in original.files.items()
        }


def test_pairs(tmp_path, rows):
    """The lowest time point is the fixed scan, whatever the order of rows, and truth goes with its baseline only."""
    manifest = write_manifest(rows, tmp_path / "manifest.csv")
    times = [(f.timepoint, m.timepoint) for f, m in manifest.pairs("val")]
    assert times == [(0, 30), (0, 90)]
    assert [m.displacement is not None for _, m in manifest.pairs("val")] == [True, False]
    everyone = manifest.pairs("val", "all")
    assert {(f.timepoint, m.timepoint) for f, m in everyone} == {(0, 30), (0, 90), (30, 0), (30, 90), (90, 0), (90, 30)}
    assert [(f.timepoint, m.timepoint) for f, m in everyone if m.displacement] == [(0, 30)]
    assert manifest.pairs("train") == []
    more = [*rows, Row("c", 5.0, rows[0].image), Row("d", 0.0, rows[0].image)]
    subjects = write_manifest(more, tmp_path / "more.csv").pairs("train", "subjects")
    assert [(f.subject, m.subject) for f, m in subjects] == [("a", "c"), ("a", "d"), ("c", "d")]
    alone = write_manifest(rows, tmp_path / "alone.csv").pairs("val", "alone")
    assert [(f.timepoint, m.timepoint, m.displacement) for f, m in alone] == [(t, t, None) for t in (0.0, 30.0, 90.0)]


@pytest.mark.parametrize(("split", "mode"), [("training", "baseline"), ("train", "every")])
def test_pairs_of_what_is_not_known(tmp_path, rows, split, mode):
    """A split or mode that does not exist is named."""
    with pytest.raises(BadInput, match=f"'{split if mode == 'baseline' else mode}'"):
        write_manifest(rows, tmp_path / "manifest.csv").pairs(split, mode)


HEADER = "subject,timepoint,image,split\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "a,0,gone.nii.gz,train\n", r"row 1 \(subject a at 0\): its image .*gone.nii.gz is gone"),
        (HEADER + "a,0,scan.nii.gz,train\nb,0,broken.nii.gz,train\n", r"row 2 .*broken.nii.gz cannot be read"),
        (HEADER + "a,0,scan.nii.gz,testing\n", "row 1: there is no split 'testing'"),
        (HEADER + "a,early,scan.nii.gz,train\n", "'early' is no number"),
        (HEADER + "a,,scan.nii.gz,train\n", "has no timepoint"),
        (HEADER + "a,0,scan.nii.gz,train\na,0,scan.nii.gz,train\n", "subject a at 0 stands there twice"),
        (HEADER + "a,0,scan.nii.gz,train\na,1,scan.nii.gz,val\n", "subject a is in two splits"),
        ("subject,timepoint,image,lung\na,0,scan.nii.gz,x\n", "no known column: lung"),
        (HEADER + "a,0,scan.nii.gz,train,more\n", "more fields than the header"),
        (HEADER, "names no scan"),
    ],
)
def test_bad_rows_are_named(tmp_path, write_ct, text, message):
    """Each mistake is one sentence with the row, and the file where there is one."""
    write_ct(tmp_path / "scan.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    path = tmp_path / "manifest.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        read_manifest(path)


def test_bad_files(tmp_path):
    """A manifest that is not there, has no known ending or is no JSON is told so."""
    with pytest.raises(BadInput, match="does not exist"):
        read_manifest(tmp_path / "manifest.csv")
    with pytest.raises(BadInput, match=r"\.csv or \.json"):
        read_manifest(tmp_path / "manifest.txt")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        read_manifest(tmp_path / "manifest.json")
    (tmp_path / "manifest.json").write_text(json.dumps({"rows": [1]}))
    with pytest.raises(BadInput, match="no list of objects"):
        read_manifest(tmp_path / "manifest.json")


def test_no_half_written_manifest(tmp_path, rows):
    """Rows that contradict each other leave the manifest that was there."""
    path = tmp_path / "manifest.csv"
    write_manifest(rows, path)
    before = path.read_text()
    with pytest.raises(BadInput, match="twice"):
        write_manifest([*rows, rows[0]], path)
    assert path.read_text() == before
