"""Radiomic features: their definitions, what a scan's bias does to them, the table of the stable ones, the command."""

import csv
import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from LungRecoveryLib.cli.application import app
from LungRecoveryLib.images import write_image
from LungRecoveryLib.parenchyma.radiomics import (
    BIN_HU,
    FEATURES,
    RANGES_HU,
    features,
    icc,
    measure,
    repeatability,
    rows_of,
    stability,
    stable_features,
)
from LungRecoveryLib.parenchyma.scan import assess

RANGE = (-200.0, 400.0)


def by_name(values) -> dict[tuple[str, str], float]:
    return {(feature.family, feature.name): value for feature, value in values.items()}


@pytest.fixture(scope="module")
def small() -> tuple[np.ndarray, np.ndarray, dict]:
    """Smooth noise in a ball, the ball, and its features by MIRP."""
    pytest.importorskip("mirp")
    rng = np.random.default_rng(0)
    voxels = rng.normal(0, 60, (14, 15, 16)).astype(np.float32)
    voxels += 40 * np.sin(np.arange(16) / 2)
    z, y, x = np.indices(voxels.shape)
    mask = (z - 7) ** 2 + (y - 7) ** 2 + (x - 8) ** 2 <= 36
    return voxels, mask, by_name(features(voxels, mask, RANGE))


def test_intensities_are_those_of_the_voxels(small):
    voxels, mask, found = small
    inside = voxels[mask & (voxels >= RANGE[0])].astype(float)
    expected = {
        "mean": inside.mean(),
        "variance": inside.var(),
        "skewness": ((inside - inside.mean()) ** 3).mean() / inside.std() ** 3,
        "kurtosis": ((inside - inside.mean()) ** 4).mean() / inside.var() ** 2 - 3,
    }
    for name, value in expected.items():
        assert found["intensity", name] == pytest.approx(value, rel=0.02, abs=0.02), name


def test_the_co_occurrence_matrix_is_that_of_its_definition(small):
    """Grey levels of 25 HU from the range's lower end; all 13 directions in one symmetric matrix."""
    voxels, mask, found = small
    levels = np.floor((np.rint(voxels) - RANGE[0]) / BIN_HU).astype(int) + 1  # CT values are whole numbers
    valid = mask & (np.rint(voxels) >= RANGE[0])
    matrix = np.zeros((40, 40))
    for dz, dy, dx in np.ndindex(3, 3, 3):
        shift = (dz - 1, dy - 1, dx - 1)
        if shift == (0, 0, 0):
            continue
        both = valid & np.roll(valid, shift, (0, 1, 2))
        np.add.at(matrix, (levels[both], np.roll(levels, shift, (0, 1, 2))[both]), 1)
    p = matrix / matrix.sum()
    i, j = np.indices(p.shape)
    mean = (i * p).sum()
    variance = ((i - mean) ** 2 * p).sum()
    expected = {
        "joint entropy": -(p[p > 0] * np.log2(p[p > 0])).sum(),
        "contrast": ((i - j) ** 2 * p).sum(),
        "correlation": ((i - mean) * (j - mean) * p).sum() / variance,
        "inverse difference": (p / (1 + abs(i - j))).sum(),
        "cluster tendency": ((i + j - 2 * mean) ** 2 * p).sum(),
    }
    for name, value in expected.items():
        assert found["co-occurrence", name] == pytest.approx(value, rel=1e-3), name


def test_an_offset_of_the_scale_moves_the_plain_features_only(chest, balls_in):
    """A scan 30 HU too dense: enhanced features of the lungs stay, the plain mean moves by as much."""
    pytest.importorskip("mirp")
    lesion = balls_in(chest, [(-60, 20, 5), (58, 5, 10)], 15.0)
    tables = []
    for offset in (0.0, 30.0):
        ct = chest.scan(200.0 * lesion, offset=offset, noise=10.0)
        found = assess(ct, *(chest.image(name) for name in ("lungs", "airways", "vessels")))
        images = {"plain": ct, "enhanced": found.enhanced}
        table = measure(images, chest.image("lungs"), None, found.lesions)
        tables.append({(row["region"], row["image"], row["ibsi"]): row["value"] for row in rows_of(table)})
    first, second = tables
    assert {region for region, _, _ in first} == {"lungs", "right", "left", "lesions"}
    assert second["lungs", "plain", "Q4LE"] - first["lungs", "plain", "Q4LE"] == pytest.approx(30, abs=2)
    for ibsi in ("Q4LE", "Y12H"):
        assert second["lungs", "enhanced", ibsi] == pytest.approx(first["lungs", "enhanced", ibsi], abs=3)
    assert second["lungs", "enhanced", "TU9B"] == pytest.approx(first["lungs", "enhanced", "TU9B"], rel=0.03)


def test_lobes_take_the_place_of_sides(chest):
    pytest.importorskip("mirp")
    ct, lungs = chest.scan(noise=5.0), chest.image("lungs")
    lobes = lungs * 3  # 3 and 6: the right lung is one lobe
    told = []
    found = measure({"plain": ct}, lungs, lobes, lungs * 0, lambda *said: told.append(said))
    assert list(found) == ["lungs", "right_lobe_lower"]
    assert told == [("radiomics", 0.0, "lungs"), ("radiomics", 0.5, "right_lobe_lower")]


def test_the_intraclass_correlation_of_the_textbook():
    """Table 2 of Shrout and Fleiss 1979: six targets, four judges; ICC(2,1) is .29."""
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert icc(np.array(ratings, float)) == pytest.approx(0.29, abs=0.005)
    assert np.isnan(icc(np.ones((3, 3))))
    assert icc(np.array([[1.0, 1], [2, 2], [3, 3]])) == pytest.approx(1)


def test_the_shipped_table_says_which_features_are_stable():
    """Every feature was measured in both images, on lungs and lesions; some are stable and some are not."""
    known = stability()
    expected = {(r, i, f.ibsi) for r in ("lung", "lesions") for i in RANGES_HU for f in FEATURES}
    assert set(known) == expected
    for region in ("lungs", "lesions"):
        assert 0 < len(stable_features(region)) < len(FEATURES)
    assert "mean" in {feature.name for feature in stable_features("lesions")}
    assert stable_features("right_lobe_upper") == stable_features("lungs")
    spread = {f.name: repeatability("lungs", f) for f in FEATURES if f.family == "intensity"}
    assert 0 < spread["mean"] < 10  # HU


def test_the_command_writes_the_features(chest, tmp_path):
    pytest.importorskip("mirp")
    arguments = ["--output", str(tmp_path / "e.nii.gz"), "--radiomics", str(tmp_path / "r.csv"), "--json"]
    for name in ("lungs", "airways", "vessels"):
        write_image(chest.image(name), tmp_path / f"{name}.mha")
        arguments += [f"--{name}", str(tmp_path / f"{name}.mha")]
    write_image(chest.scan(), tmp_path / "ct.mha")
    done = CliRunner().invoke(app, ["enhance", str(tmp_path / "ct.mha"), *arguments])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["radiomics_output"].endswith("r.csv")
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2 * len(FEATURES)
    assert {row["stable"] for row in rows} == {"yes", "no"}


def test_without_mirp_one_sentence_and_code_3(chest, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mirp", None)
    write_image(chest.scan(), tmp_path / "ct.mha")
    before = set(tmp_path.iterdir())
    options = ["--output", str(tmp_path / "e.nii.gz"), "--radiomics", str(tmp_path / "r.csv")]
    done = CliRunner().invoke(app, ["enhance", str(tmp_path / "ct.mha"), *options])
    assert done.exit_code == 3
    assert "pip install 'lungrecovery[radiomics]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert set(tmp_path.iterdir()) == before
