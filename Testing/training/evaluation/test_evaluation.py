"""An evaluation measures what it says: known errors come out, tables hold every case, folders appear whole."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import (
    Grid,
    field_to_transform,
    grid_of,
    isotropic_grid,
    resample,
    resample_mask,
    to_image,
    transform_to_field,
)
from LungRecoveryLib.images import write_image
from LungRecoveryLib.registration.networks import build_network
from LungRecoveryLib.registration.register import Registration
from LungRecoveryLib.registration.weights import save_weights
from LungRecoveryTrainingLib.datasets.manifest import Row, write_manifest
from LungRecoveryTrainingLib.evaluation import evaluate
from LungRecoveryTrainingLib.evaluation.measures import MEASURES, Truth, sd_log_jacobian

SPACING = 5.0
QUICK = {"spacing_mm": SPACING, "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def manifest(small_patient, tmp_path_factory):
    """The small patient as a manifest with masks, lobes as labels, landmarks and the true displacement."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = []
    for i, visit in enumerate(small_patient.visits):
        files = {"image": visit.ct, "mask": visit.lungs, "labels": visit.lobes}
        if i:
            files["displacement"] = visit.displacement
        paths = {name: folder / f"{name}{i}.mha" for name in files}
        for name, image in files.items():
            write_image(image, paths[name])
        np.savetxt(folder / f"points{i}.csv", visit.landmarks, delimiter=",", fmt="%.3f")
        rows.append(Row("p0", visit.days, landmarks=folder / f"points{i}.csv", split="test", **paths))
    return write_manifest(rows, folder / "manifest.csv")


@pytest.fixture(scope="module")
def one_pair(manifest):
    """The manifest without the last scan."""
    return write_manifest(manifest.rows[:2], manifest.path.with_name("one.csv"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny network that has learnt nothing."""
    torch.manual_seed(0)
    architecture = {"name": "voxelmorph_diff", "downsample": 1, "encoder": [4, 4, 4], "final": [4]}
    card = {"architecture": architecture, "spacing_mm": 6.0}
    return save_weights(build_network(architecture), card, tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def true_registration(fixed, moving, fixed_lungs, moving_lungs, preset, weights, spacing_mm, progress=None, **_):
    """A stand-in for `register` that knows the answer: the displacement of `true_registration.fields`."""
    transform, inverse = true_registration.transforms[round(float(sitk.GetArrayViewFromImage(moving).sum()))]
    grid = isotropic_grid(grid_of(fixed), spacing_mm)
    displacement = transform_to_field(transform, grid)
    jacobian = sitk.DisplacementFieldJacobianDeterminant(to_image(displacement, grid))
    return Registration(
        transform=transform, inverse_transform=inverse, grid=grid, warped=resample(moving, grid, transform),
        displacement_mm=displacement, jacobian=jacobian,
        fixed_lungs=resample_mask(fixed_lungs, grid), warped_lungs=resample_mask(moving_lungs, grid, transform),
        inside=resample_mask(moving_lungs * 0 + 1, grid, transform), folding_percent=0.0, similarity_before=0.0,
        similarity_after=1.0, inverse_mean_mm=0.0, inverse_p95_mm=0.0, lung_dice=1.0,
        seconds={"lungs": 5.0, "align": 0.25, "refine": 0.5, "maps": 2.0}, settings={"preset": preset}, device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="module")
def truth(small_patient):
    """The stand-in, told the true displacement of every follow-up."""
    true_registration.transforms = {}
    for visit in small_patient.visits[1:]:
        grid = grid_of(visit.displacement)
        field = np.moveaxis(sitk.GetArrayFromImage(visit.displacement), -1, 0)
        key = round(float(sitk.GetArrayViewFromImage(visit.ct).sum()))
        inverse = sitk.InvertDisplacementField(sitk.Cast(visit.displacement, sitk.sitkVectorFloat64))
        true_registration.transforms[key] = (
            field_to_transform(field, grid),
            sitk.DisplacementFieldTransform(inverse),
        )
    return true_registration


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def numbers(row):
    return {name: float(row[name]) for name in MEASURES if row[name]}


@pytest.fixture(scope="module")
def exact(manifest, truth, tmp_path_factory):
    """The folder of an evaluation of the stand-in that knows the answer."""
    folder = tmp_path_factory.mktemp("exact") / "evaluation"
    evaluate("told.safetensors", manifest, "test", folder, **QUICK, preset="fast", register=truth)
    return folder


def test_the_true_deformation_leaves_no_error_and_the_start_is_that_of_the_patient(exact, small_patient):
    rows = table(exact / "cases.csv")
    assert [(r["case"], r["method"]) for r in rows] == [
        (case, method) for case in ("p0:0-30", "p0:0-90") for method in ("before", "network", "refined")
    ]
    start, found = numbers(rows[0]), numbers(rows[1])
    baseline, visit = small_patient.visits[0], small_patient.visits[1]
    apart = np.linalg.norm(visit.landmarks - baseline.landmarks, axis=1)
    assert start["tre_mm"] == pytest.approx(apart.mean(), rel=1e-3)
    assert found["tre_mm"] < 0.15 * start["tre_mm"]
    lung = sitk.GetArrayViewFromImage(baseline.lungs) != 0
    known = np.linalg.norm(sitk.GetArrayViewFromImage(visit.displacement), axis=-1)[lung]
    assert start["field_mm"] == pytest.approx(known.mean(), rel=0.01)
    assert found["field_mm"] < 0.1 * start["field_mm"]
    assert found["lung_dice"] > start["lung_dice"] + 0.05
    assert found["label_dice"] > start["label_dice"]
    assert found["ssim"] > start["ssim"]
    assert found["jacobian_error"] < 0.05
    assert found["registration_s"] == pytest.approx(0.75)
    assert found["seconds"] == pytest.approx(7.75)
    assert found["memory_mb"] > 50
    assert not {"sdlogj", "inverse_mm", "seconds", "folds_percent"} & set(start)


def test_the_summary_is_that_of_the_cases(exact):
    cases, summary = table(exact / "cases.csv"), table(exact / "summary.csv")
    values = [float(r["tre_mm"]) for r in cases if r["method"] == "before"]
    by_statistic = {r["statistic"]: r for r in summary if r["method"] == "before"}
    assert float(by_statistic["mean"]["tre_mm"]) == pytest.approx(np.mean(values), rel=1e-4)
    assert float(by_statistic["worst"]["tre_mm"]) == pytest.approx(max(values), rel=1e-4)
    dice = [float(r["lung_dice"]) for r in cases if r["method"] == "refined"]
    worst = next(r for r in summary if (r["method"], r["statistic"]) == ("refined", "worst"))
    assert float(worst["lung_dice"]) == pytest.approx(min(dice), rel=1e-4)
    assert by_statistic["count"]["tre_mm"] == "2"
    assert by_statistic["count"]["seconds"] == "0"


def test_the_folder_says_what_was_evaluated_without_paths(exact, manifest):
    content = json.loads((exact / "evaluation.json").read_text())
    assert content["cases"] == 2
    assert content["methods"]["refined"]["preset"] == "fast"
    assert content["methods"]["network"]["preset"] == "preview"
    assert str(manifest.path.parent) not in json.dumps(content)
    tre = {r["case"]: float(r["tre_mm"]) for r in table(exact / "cases.csv") if r["method"] == "refined"}
    assert content["ranked_by"] == "tre_mm"
    assert content["shown"]["worst"] == max(tre, key=tre.get)
    assert content["shown"]["best"] == min(tre, key=tre.get)


def test_the_figures_show_something(exact):
    for name in ("cases", "overlay_worst", "overlay_median", "overlay_best"):
        picture = np.asarray(Image.open(exact / f"{name}.png"), float)
        assert picture.std() > 5, name
    overlay = np.asarray(Image.open(exact / "overlay_best.png"), float)
    colour = np.abs(overlay[..., 0] - overlay[..., 2])
    third = overlay.shape[1] // 3
    assert colour[:, :third].mean() > 1.5 * colour[:, third : 2 * third].mean()  # grey once registered


def test_weights_are_run_alone_refined_and_beside_refinement_from_rest(one_pair, weights, tmp_path):
    content = evaluate(weights, one_pair, "test", tmp_path / "out", **QUICK, preset="fast", without_network=True)
    rows = table(tmp_path / "out" / "cases.csv")
    assert [r["method"] for r in rows] == ["before", "network", "refined", "without network"]
    means = {r["method"]: numbers(r) for r in table(tmp_path / "out" / "summary.csv") if r["statistic"] == "mean"}
    assert means["refined"]["tre_mm"] < 0.6 * means["before"]["tre_mm"]
    assert means["without network"]["tre_mm"] < 0.6 * means["before"]["tre_mm"]
    assert means["network"]["folds_percent"] == 0
    assert means["network"]["inverse_mm"] < 0.5
    sums = {name: content["methods"][name]["weights_sha256"] for name in ("network", "refined", "without network")}
    assert sums["network"] == sums["refined"] != None  # noqa: E711
    assert sums["without network"] is None


def test_no_refinement_and_no_network_are_what_they_say(one_pair, truth, tmp_path):
    alone = evaluate("w", one_pair, "test", tmp_path / "a", **QUICK, refine=False, register=truth)
    assert list(alone["methods"]) == ["network"]
    rest = evaluate("none", one_pair, "test", tmp_path / "b", **QUICK, register=truth)
    assert list(rest["methods"]) == ["without network"]


def test_bad_input_is_named_and_leaves_nothing(one_pair, truth, tmp_path):
    with pytest.raises(BadInput, match="has no pair"):
        evaluate("w", one_pair, "val", tmp_path / "out", **QUICK, register=truth)

    def fails(*args, **options):
        raise BadInput("the lungs do not overlap")

    with pytest.raises(BadInput, match="p0:0-30: the lungs do not overlap"):
        evaluate("w", one_pair, "test", tmp_path / "out", **QUICK, register=fails)
    assert list(tmp_path.iterdir()) == []


def test_progress_grows_to_one_and_can_cancel(one_pair, truth, tmp_path):
    seen = []

    def forwarding(*images, progress=None, **options):
        if progress:
            progress("refine", 0.5)
        return truth(*images, **options)

    evaluate(
        "w", one_pair, "test", tmp_path / "out", **QUICK, register=forwarding,
        progress=lambda stage, fraction, message="": seen.append((stage, fraction)),
    )  # fmt: skip
    assert [f for _, f in seen] == sorted(f for _, f in seen)
    assert seen[0] == ("p0:0-30: network: refine", 0.25)
    assert seen[-1] == ("done", 1.0)


def test_the_jacobians_error_is_that_of_a_known_expansion():
    oblique = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    grid = Grid((12, 10, 8), (2.0, 3.0, 4.0), (5.0, -7.0, -900.0), oblique)
    indices = np.moveaxis(np.indices(grid.shape)[::-1], 0, -1)
    points = grid.points(indices.reshape(-1, 3)).reshape(*grid.shape, 3)
    growth = np.diag([0.1, 0.0, 0.2])
    truth = Truth(np.moveaxis((points - grid.centre) @ growth.T, -1, 0), grid, np.ones(grid.shape, bool))
    jacobian = np.full(grid.shape, 1.1 * 1.2 + 0.05, np.float32)
    np.testing.assert_allclose(truth.jacobian_errors(jacobian, grid), 0.05, atol=1e-4)
    np.testing.assert_allclose(truth.distances(truth.displacement, grid), 0, atol=1e-5)
    assert truth.distances().max() == pytest.approx(np.linalg.norm(truth.displacement, axis=0).max())


def test_sdlogj_is_the_deviation_of_the_logarithm():
    assert sd_log_jacobian(np.array([1.0, np.e, np.e**2])) == pytest.approx(np.std([0, 1, 2]))
    assert sd_log_jacobian(np.array([1.0, -3.0])) == pytest.approx(np.std([0, np.log(1e-9)]))
    assert sd_log_jacobian(np.array([])) is None
