"""Scans, masks and their files: geometry is kept, what cannot be used is refused, writing is whole or not at all."""

import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib import grids
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.image_files import format_of, read_layer
from LungRecoveryLib.images import read_image, read_mask, read_scan, read_scans, write_image, write_transform

OBLIQUE = grids.Grid(
    (28, 24, 12),
    (0.8, 0.7, 2.5),
    (-120.0, -100.0, -920.0),
    tuple(sitk.VersorRigid3DTransform((0.4, 1, -0.3), 0.6).GetMatrix()),
)


def refused(function, path, *words: str, **options) -> None:
    with pytest.raises(BadInput) as caught:
        function(path, **options)
    for word in (str(path), *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def scan_image(chest) -> sitk.Image:
    return grids.to_image(chest, OBLIQUE)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_every_format_keeps_voxels_and_oblique_geometry(tmp_path, scan_image, ending):
    path = tmp_path / f"scan{ending}"
    sitk.WriteImage(scan_image, str(path))
    scan = read_scan(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(scan.image), sitk.GetArrayFromImage(scan_image))
    assert grids.same_grid(scan.image, scan_image)
    assert scan.name == path.name
    assert scan.source["format"] == {"n": "NIfTI", "m": "MetaImage"}[ending[1]] if "nrrd" not in ending else "NRRD"
    assert scan.date is scan.patient_id is None


def test_nifti_axes_that_run_the_other_way_are_read_where_they_lie(tmp_path, chest):
    affine = np.array([[-0.8, 0, 0, 10], [0, 0.7, 0, -20], [0, 0, -2.5, 920], [0, 0, 0, 1]])  # RAS
    nibabel.save(nibabel.Nifti1Image(chest.T, affine), tmp_path / "flipped.nii")
    scan = read_scan(tmp_path / "flipped.nii")
    assert scan.image.TransformIndexToPhysicalPoint((1, 2, 3)) == pytest.approx((-9.2, 18.6, 912.5), abs=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(scan.image), chest)


def test_floats_padding_and_a_single_fourth_dimension_are_accepted(tmp_path, chest):
    array = chest.astype(np.float32) + 0.2
    array[:, :3] = -2048
    nibabel.save(nibabel.Nifti1Image(array.T[..., None], np.eye(4)), tmp_path / "scan.nii")
    out = sitk.GetArrayFromImage(read_scan(tmp_path / "scan.nii").image)
    assert out.dtype == np.int16
    assert (out[:, :3] == -1024).all()
    np.testing.assert_array_equal(out[:, 3:], chest[:, 3:])


def test_metadata_with_names_does_not_travel_with_the_image(tmp_path, scan_image):
    scan_image.SetMetaData("patient", "Doe^Jane")
    sitk.WriteImage(scan_image, str(tmp_path / "scan.nrrd"))
    assert "Doe" in (tmp_path / "scan.nrrd").read_bytes()[:2000].decode("latin-1")
    assert read_scan(tmp_path / "scan.nrrd").image.GetMetaDataKeys() == ()


# ------------------------------------------------------------------------------------------------------------ bad input


def test_paths_that_lead_to_no_image_are_refused(tmp_path):
    refused(read_scan, tmp_path / "missing.nii.gz", "does not exist")
    refused(read_scan, tmp_path / ("x" * 400), "does not exist")
    for empty in ("", "  "):
        with pytest.raises(BadInput, match="a path is empty"):
            read_scan(empty)
    (tmp_path / "empty").mkdir()
    refused(read_scan, tmp_path / "empty", "empty folder")
    (tmp_path / "empty.nii").write_bytes(b"")
    refused(read_scan, tmp_path / "empty.nii", "empty file")
    for name in ("text.txt", "text.nii.gz", "text.nrrd", "text.mha", "text"):
        (tmp_path / name).write_text("this is not an image")
        refused(read_scan, tmp_path / name, "cannot be read as an image")
    with pytest.raises(BadInput, match="no scan"):
        read_scans([])


def test_images_that_are_no_volume_are_refused(tmp_path, chest):
    def written(name, image):
        sitk.WriteImage(image, str(tmp_path / name))
        return tmp_path / name

    refused(read_scan, written("a.png", sitk.GetImageFromArray(np.zeros((9, 9), np.uint8))), "2D image")
    refused(read_scan, written("b.nii", sitk.GetImageFromArray(chest[5])), "2D image")
    refused(read_scan, written("c.nii", sitk.GetImageFromArray(chest[5:6])), "2D image")
    refused(read_scan, written("d.nii", sitk.GetImageFromArray(chest[5:8])), "3 slices only")
    series = sitk.JoinSeries([sitk.GetImageFromArray(chest)] * 3)
    refused(read_scan, written("e.nii", series), "4D image with 3 volumes")
    colour = sitk.GetImageFromArray(np.stack([chest] * 3, -1), isVector=True)
    refused(read_scan, written("f.nrrd", colour), "3 numbers per voxel")
    tiny = sitk.GetImageFromArray(chest)
    tiny.SetSpacing((0.001, 0.001, 0.001))
    refused(read_scan, written("g.mha", tiny), "voxel size")


def test_values_that_are_not_hu_are_refused_with_the_name(tmp_path, chest):
    sitk.WriteImage(sitk.GetImageFromArray(chest + 1024), str(tmp_path / "offset.mha"))
    refused(read_scan, tmp_path / "offset.mha", "without the -1024 offset")
    array = chest.astype(np.float32)
    array[1, 2, 3] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "nan.mha"))
    refused(read_scan, tmp_path / "nan.mha", "NaN")


def test_a_sheared_nifti_is_refused(tmp_path, chest):
    affine = np.array([[1, 0, 0, 0], [0, 1, 0.4, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(chest.T, affine), tmp_path / "sheared.nii")
    refused(read_scan, tmp_path / "sheared.nii", "sheared")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("left", [0.4, 0.99])
def test_a_file_that_was_cut_short_is_refused(tmp_path, chest, ending, left):
    path = tmp_path / f"scan{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.tile(chest, (3, 3, 3))), str(path))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])
    refused(read_scan, path, "again" if "nii" in ending else "cannot be read")


def test_a_compressed_file_with_a_wrong_byte_is_refused(tmp_path, chest):
    path = tmp_path / "scan.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(chest), str(path))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    refused(read_scan, path, "damaged")


def test_a_series_cannot_be_named_for_a_file_without_series(tmp_path, scan_image):
    sitk.WriteImage(scan_image, str(tmp_path / "scan.mha"))
    refused(read_scan, tmp_path / "scan.mha", "no series", series="3")
    with pytest.raises(BadInput, match="scan 3 but there are 1"):
        read_scans([tmp_path / "scan.mha"], {2: "x"})


def test_files_of_different_slice_thickness_are_warned_of(tmp_path, chest):
    for name, thickness in (("a.mha", 1.0), ("b.mha", 5.0)):
        image = sitk.GetImageFromArray(chest)
        image.SetSpacing((0.7, 0.7, thickness))
        sitk.WriteImage(image, str(tmp_path / name))
    first, second = read_scans([tmp_path / "a.mha", tmp_path / "b.mha"])
    assert first.warnings == ()
    assert second.warnings == ("b.mha: differs from the baseline: slice thickness 1 mm, then 5 mm",)


def test_reading_says_how_far_it_is(tmp_path, scan_image):
    for name in ("a.mha", "b.mha"):
        sitk.WriteImage(scan_image, str(tmp_path / name))
    said = []
    read_scans([tmp_path / "a.mha", tmp_path / "b.mha"], progress=lambda stage, f, message="": said.append(f))
    assert said == sorted(said)
    assert said[-1] == 1.0


# ---------------------------------------------------------------------------------------------------------------- masks


@pytest.fixture
def lungs(chest) -> sitk.Image:
    return grids.to_image(((chest < -700) & (chest > -930)).astype(np.uint8), OBLIQUE)


def test_a_mask_on_the_scans_grid_keeps_its_labels(tmp_path, scan_image, lungs):
    array = sitk.GetArrayFromImage(lungs) * (1 + (np.arange(28) > 14).astype(np.uint8))
    sitk.WriteImage(grids.to_image(array.astype(np.float64), OBLIQUE), str(tmp_path / "m.nii.gz"))
    mask = read_mask(tmp_path / "m.nii.gz", scan_image)
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert grids.same_grid(mask, scan_image, 0.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), array)


def test_a_single_label_of_any_number_becomes_1_and_probabilities_are_cut_at_a_half(tmp_path, scan_image, lungs):
    expected = sitk.GetArrayFromImage(lungs)
    for i, array in enumerate([expected * 255, expected.astype(np.int32) * 1035, expected * 0.6 + 0.1]):
        path = tmp_path / f"m{i}.mha"
        sitk.WriteImage(grids.to_image(array, OBLIQUE), str(path))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(read_mask(path, scan_image)), expected)


def test_a_mask_that_is_stored_along_other_axes_falls_on_the_same_voxels(tmp_path, scan_image, lungs):
    expected = sitk.GetArrayFromImage(lungs)
    for axes in itertools.permutations(range(3)):
        turned = sitk.Flip(sitk.PermuteAxes(lungs, axes), (True, False, True))
        sitk.WriteImage(turned, str(tmp_path / "turned.nrrd"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(read_mask(tmp_path / "turned.nrrd", scan_image)), expected)


def test_a_mask_cropped_to_its_segment_is_laid_on_the_scans_grid(tmp_path, scan_image, lungs):
    box = grids.crop_to_mask(lungs, 0)
    sitk.WriteImage(grids.resample_mask(lungs, box), str(tmp_path / "lungs.seg.nrrd"))
    mask = read_mask(tmp_path / "lungs.seg.nrrd", scan_image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(lungs))


def test_layers_of_overlapping_segments_are_united(tmp_path, scan_image, lungs):
    array = sitk.GetArrayFromImage(lungs)
    left = array * (np.arange(28) > 12)
    right = array * (np.arange(28) < 16)
    # As 3D Slicer writes it: a fourth, first axis of the kind "list".
    step = grids.grid_of(lungs).index_to_point
    vectors = " ".join("(" + ",".join(f"{v:.12g}" for v in step[:, i]) + ")" for i in range(3))
    header = (
        "NRRD0005\ntype: unsigned char\ndimension: 4\nspace: left-posterior-superior\nsizes: 2 28 24 12\n"
        f"space directions: none {vectors}\nkinds: list domain domain domain\nencoding: raw\n"
        "space origin: (-120,-100,-920)\nSegment0_ID:=Segment_1\nSegment0_Layer:=0\nSegment1_Layer:=1\n\n"
    )
    data = np.stack([left, right], -1).astype(np.uint8)
    (tmp_path / "two.seg.nrrd").write_bytes(header.encode() + data.tobytes())
    mask = read_mask(tmp_path / "two.seg.nrrd", scan_image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), array)


def test_masks_that_cannot_be_used_are_refused(tmp_path, scan_image, lungs):
    def refuse(image, *words):
        sitk.WriteImage(image, str(tmp_path / "mask.mha"))
        refused(read_mask, tmp_path / "mask.mha", *words, reference=scan_image)

    far = sitk.Image(lungs)
    far.SetOrigin((-120, 400, -920))
    refuse(far, "does not overlap")
    refuse(lungs * 0, "empty")
    refuse(scan_image, "values below 0")
    refuse(sitk.Cast(lungs, sitk.sitkFloat32) * 2.5, "no whole numbers")
    labels = grids.to_array(lungs).astype(np.int32) * np.arange(28) * 20
    refuse(grids.to_image(labels, OBLIQUE), "labels up to 460")
    refuse(lungs[:, :, 5], "2D image")
    refuse(sitk.JoinSeries([lungs, lungs]), "4D image")
    not_finite = sitk.GetArrayFromImage(lungs).astype(np.float32)
    not_finite[0, 0, 0] = np.inf
    refuse(grids.to_image(not_finite, OBLIQUE), "NaN or infinite")
    refused(read_mask, tmp_path / "missing.mha", "does not exist", reference=scan_image)
    refused(read_mask, tmp_path, "folder", reference=scan_image)


@pytest.mark.realdata
def test_the_real_pair_with_padding_and_its_masks_reads(real_data):
    folder = real_data / "lung-followup-pair"
    scans = read_scans([folder / "baseline.mha", folder / "followup.mha"])
    for scan, name in zip(scans, ("baseline", "followup"), strict=True):
        mask = read_mask(folder / f"{name}_lung_mask.mha", scan.image)
        array, inside = sitk.GetArrayViewFromImage(scan.image), sitk.GetArrayViewFromImage(mask) == 1
        assert array.min() == -1024
        assert 0.2 < inside.mean() < 0.5
        assert -950 < array[inside].mean() < -700
        assert scan.warnings == ()


@pytest.mark.realdata
def test_every_real_chest_is_accepted_and_the_brains_are_not(real_data):
    for path in sorted((real_data / "chest-ct").glob("*.nii.gz")):
        scan = read_scan(path)
        assert np.mean(sitk.GetArrayViewFromImage(scan.image) < -700) > 0.2, path.name
    refused(read_scan, real_data / "brain-pair" / "subject_a.nii.gz", "Hounsfield")
    refused(read_scan, real_data / "lung-followup-pair" / "baseline_lung_mask.mha", "Hounsfield")


# -------------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_an_image_is_written_compressed_and_whole(tmp_path, scan_image, ending):
    path = tmp_path / f"ct{ending}"
    write_image(scan_image * 0, path)
    assert path.stat().st_size < scan_image.GetNumberOfPixels()
    write_image(scan_image, path)
    back = read_image(path)
    assert grids.same_grid(back, scan_image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(scan_image))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_image_that_cannot_be_written_leaves_nothing(tmp_path, scan_image):
    for name in ("ct.unknown", "ct.mhd", "missing/ct.mha", "ct.png"):
        refused(lambda path: write_image(scan_image, path), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_transform_comes_back_as_it_was_even_nested(tmp_path):
    inner = sitk.CompositeTransform(3)
    inner.AddTransform(sitk.TranslationTransform(3, (1, 2, 3)))
    field = np.random.default_rng(0).normal(0, 2, (3, *OBLIQUE.shape))
    inner.AddTransform(grids.field_to_transform(field, OBLIQUE))
    outer = sitk.CompositeTransform(3)
    outer.AddTransform(sitk.Euler3DTransform((0, 0, -900), 0.1, 0.2, 0.3, (5, 5, 5)))
    outer.AddTransform(inner)
    path = tmp_path / "transform.h5"
    write_transform(outer, path)
    points = OBLIQUE.points(np.random.default_rng(1).uniform(1, 10, (20, 3)))
    expected = grids.transform_points(outer, points)
    np.testing.assert_allclose(grids.transform_points(sitk.ReadTransform(str(path)), points), expected, atol=1e-9)
    np.testing.assert_allclose(grids.transform_points(outer, points), expected)  # not changed by writing
    refused(lambda p: write_transform(outer, p), tmp_path / "transform.unknown")
    assert [p.name for p in tmp_path.iterdir()] == ["transform.h5"]


def test_format_names():
    names = ("a.NII.GZ", "b.nii", "c.seg.nrrd", "d.mha", "e.tif", "f")
    assert [format_of(n) for n in names] == ["NIfTI", "NIfTI", "NRRD", "MetaImage", "TIF", "unknown"]


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
def test_a_layer_comes_back_as_it_was_written(tmp_path, kind):
    """Voxels of every kind that a study holds, on an oblique grid."""
    image = sitk.GetImageFromArray(np.arange(6 * 5 * 7).reshape(6, 5, 7).astype(kind))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-12.5, 3.0, 80.0))
    image.SetDirection((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
    write_image(image, tmp_path / "layer.nii.gz")
    back = read_layer(tmp_path / "layer.nii.gz")
    assert back.GetPixelID() == image.GetPixelID()
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))
    for got, wanted in (
        (back.GetSpacing(), image.GetSpacing()),
        (back.GetOrigin(), image.GetOrigin()),
        (back.GetDirection(), image.GetDirection()),
    ):
        assert got == pytest.approx(wanted, abs=1e-5)


def test_threads_read_layers_without_itk(tmp_path, monkeypatch):
    """Its readers are not made for threads: with several at a time the program ended, about once in 150 studies."""
    image = sitk.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    write_image(image, tmp_path / "layer.nii.gz")
    for reader in ("ImageFileReader", "ReadImage"):
        monkeypatch.setattr(sitk, reader, lambda *_: pytest.fail("ITK reads"))
    assert np.array_equal(sitk.GetArrayFromImage(read_layer(tmp_path / "layer.nii.gz")), sitk.GetArrayFromImage(image))


def test_a_layer_that_was_cut_short_or_changed_is_refused(tmp_path):
    """ITK would read it without an error, with zeros, which are tissue in a CT, or nonsense."""
    noise = np.random.default_rng(0).integers(-1000, 400, (20, 20, 20)).astype(np.int16)
    path = tmp_path / "layer.nii.gz"
    write_image(sitk.GetImageFromArray(noise), path)
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 16
    for damaged in (b"", b"no image", *(whole[:n] for n in (100, 1000, len(whole) // 2, len(whole) - 1)), changed):
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"layer.nii.gz cannot be read: analyse the scans again"):
            read_layer(path)
    scaled = nibabel.Nifti1Image(noise.astype(np.int16), np.eye(4))
    scaled.header.set_slope_inter(0.5, 10.0)
    nibabel.save(scaled, path)
    with pytest.raises(BadInput, match=r"layer.nii.gz cannot be read"):
        read_layer(path)
    path.unlink()
    with pytest.raises(BadInput, match="is gone"):
        read_layer(path)
