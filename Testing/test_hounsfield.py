"""Only CT in HU passes, whatever its voxel type, and comes out as int16 between -1024 and 3071."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LungRecoveryLib import grids
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.hounsfield import to_hounsfield


def converted(array) -> np.ndarray:
    image = sitk.GetImageFromArray(np.asarray(array))
    image.SetOrigin((1, 2, -920))
    out = to_hounsfield(image, "scan.mha")
    assert out.GetPixelID() == sitk.sitkInt16
    assert grids.same_grid(out, image)
    return sitk.GetArrayFromImage(out)


def refused(array, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        converted(array)
    assert str(caught.value).startswith("scan.mha: ")


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64])
def test_hu_of_any_voxel_type_become_int16_with_padding_and_metal_clamped(chest, dtype):
    array = chest.astype(dtype)
    array[:, :2] = -2048
    array[0, 5, 5] = 20000
    expected = chest.copy()
    expected[:, :2] = -1024
    expected[0, 5, 5] = 3071
    np.testing.assert_array_equal(converted(array), expected)


def test_fractions_are_rounded_and_lookalikes_of_int16_limits_do_not_wrap(chest):
    array = chest + np.where(np.arange(chest.shape[2]) % 2, 0.4, -0.4)
    array[0, 0, 0] = 1e9
    array[0, 0, 1] = -1e9
    out = converted(array)
    assert (out[0, 0, 0], out[0, 0, 1]) == (3071, -1024)
    np.testing.assert_array_equal(out[1:], chest[1:])


@pytest.mark.parametrize("padding", [-1024, -2000, -2048, -3024, -32768])
def test_a_crop_of_one_lung_with_padding_around_passes(chest, padding):
    array = chest.copy()
    array[:, :, 14:] = padding
    assert (converted(array)[:, :, 14:] == -1024).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused(chest, value):
    array = chest.astype(np.float32)
    array[3, 4, 5] = value
    refused(array, "1 voxels are NaN or infinite")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: (a + 1024).astype(np.uint16), r"without the -1024 offset"),
        (lambda a: a + 1000, r"without the -1024 offset"),
        (lambda a: np.clip((a + 1000) // 8, 0, 255).astype(np.uint8), "grey picture of 8 bits"),
        (lambda a: (a + 1024) / 4095.0, "look normalised"),
        (lambda a: a / 2.0, "no air near -1000"),
        (lambda a: a - 1024, "rescale had been applied twice"),
        (lambda a: a * 16, "Hounsfield"),
        (lambda a: np.full_like(a, -1000), "all its voxels are -1000"),
        (lambda a: np.full_like(a, 40) + np.arange(a.shape[2], dtype=a.dtype), "no air near -1000"),
        (lambda a: a - 40 - 900 * (a > -300), "no soft tissue"),
        (lambda a: a.astype(np.int32) + 40000, "many values lie above 3071"),
    ],
)
def test_what_is_not_hu_is_refused_with_its_likely_cause(chest, change, words):
    refused(change(chest), words)


def test_vectors_are_refused(chest):
    image = sitk.GetImageFromArray(np.stack([chest] * 3, -1), isVector=True)
    with pytest.raises(BadInput, match="single numbers"):
        to_hounsfield(image, "rgb.nrrd")


@settings(max_examples=25, deadline=None)
@given(shift=st.integers(-25, 25), noise=st.floats(0, 90), seed=st.integers(0, 1000))
def test_noise_and_calibration_errors_of_real_scanners_pass(chest, shift, noise, seed):
    array = chest + shift + np.random.default_rng(seed).normal(0, noise, chest.shape)
    assert converted(array).min() >= -1024
