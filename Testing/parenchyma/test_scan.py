"""A whole scan: noise and kernel, calibration, what is wrong with it in words; and what differs between dates."""

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.grids import to_array, to_image
from LungRecoveryLib.parenchyma import dates
from LungRecoveryLib.parenchyma.calibration import check_calibration
from LungRecoveryLib.parenchyma.noise import Noise, differences, estimate_noise, softened
from LungRecoveryLib.parenchyma.scan import assess


def assessed(chest, ct, **changed):
    lungs = changed.get("lungs", chest.image("lungs"))
    return assess(ct, lungs, chest.image("airways"), changed.get("vessels", chest.image("vessels")))


@pytest.mark.parametrize("sd", [10.0, 35.0])
def test_noise_is_measured(chest, sd):
    assert estimate_noise(chest.scan(noise=sd), chest.image("lungs")).sd_hu == pytest.approx(sd, rel=0.15)


def test_kernels_are_told_apart_and_matched(chest):
    lungs = chest.image("lungs")
    soft, sharp = (estimate_noise(chest.scan(kernel_mm=k, noise=20), lungs) for k in (1.6, 0.5))
    assert soft.correlation_mm == pytest.approx(1.6, rel=0.25)
    assert sharp.correlation_mm < 0.8
    assert any("sharper" in text for text in differences(soft, sharp))
    assert any("softer" in text for text in differences(sharp, soft))
    assert differences(soft, soft) == []
    matched = softened(chest.scan(kernel_mm=0.5, noise=20), sharp, soft)
    assert estimate_noise(matched, lungs).correlation_mm == pytest.approx(soft.correlation_mm, rel=0.25)
    ct = chest.scan()
    assert softened(ct, soft, sharp) is ct


def test_no_soft_tissue_gives_no_noise(chest):
    lungs = chest.image("lungs")
    only_air = to_image(np.full(chest.hu.shape, -850, np.int16), chest.grid)
    assert estimate_noise(only_air, lungs) is None
    assert differences(None, Noise(10.0, 0.8)) == []


def test_calibration_reads_air_and_blood(chest):
    found = check_calibration(chest.scan(), chest.image("lungs"), chest.image("airways"))
    assert found.air_hu == pytest.approx(-998, abs=6)
    assert found.blood_hu == pytest.approx(45, abs=6)
    assert not found.contrast
    assert found.warnings == ()


def test_a_wrong_scale_and_contrast_medium_are_warned_of(chest):
    shifted = check_calibration(chest.scan(offset=60), chest.image("lungs"), chest.image("airways"))
    assert [("trachea" in w, "blood" in w) for w in shifted.warnings] == [(True, False), (False, True)]
    low = check_calibration(chest.scan(offset=-60, noise=2), chest.image("lungs"), chest.image("airways"))
    assert "cut" in low.warnings[0]
    x = np.abs(np.arange(chest.grid.size[0]) - chest.grid.size[0] / 2) * chest.grid.spacing[0]
    heart = (x < 20)[None, None, :] & (np.abs(chest.y) < 25) & (chest.airways == 0) & (chest.lungs == 0)
    contrast = check_calibration(chest.scan(260.0 * heart), chest.image("lungs"), chest.image("airways"))
    assert contrast.contrast
    assert contrast.blood_hu == pytest.approx(305, abs=15)
    assert "contrast medium" in contrast.warnings[0]


def test_one_lung_alone_has_no_mediastinum(chest):
    right = to_image((chest.lungs == 1).astype(np.uint8), chest.grid)
    found = assessed(chest, chest.scan(), lungs=right)
    assert found.calibration.blood_hu is None
    assert any("left lung is not shown" in w for w in found.warnings)


def test_a_plain_scan_has_no_warning_and_plain_numbers(chest):
    found = assessed(chest, chest.scan())
    assert found.warnings == []
    assert found.found["percent"] < 1.0
    summary = found.summary()
    assert summary["baseline"]["level_hu"] == pytest.approx(-850, abs=5)
    assert summary["volume_ml"] == pytest.approx((chest.lungs > 0).sum() * chest.grid.voxel_ml)


def test_what_is_wrong_with_a_scan_is_said(chest, chest_of):
    lungs = chest.lungs.copy()
    lungs[:30] = 0
    start = [0, 0, 30]
    size = [*chest.grid.size[:2], chest.grid.size[2] - 30]
    cut = [sitk.RegionOfInterest(i, size, start) for i in (chest.scan(), chest.image("lungs"))]
    airways, vessels = (sitk.RegionOfInterest(chest.image(n), size, start) for n in ("airways", "vessels"))
    found = assess(*cut, airways, vessels)
    assert found.cut
    assert any("cuts the lungs" in w for w in found.warnings)

    thick = chest_of((1.6, 1.6, 10.0))
    found = assessed(thick, thick.scan())
    assert any("10.0 mm apart" in w for w in found.warnings)
    assert found.baseline.level_hu == pytest.approx(-850, abs=20)

    hu = to_array(chest.scan())
    hu[30:34, 40:44, 58:62] = 3071
    assert any("metal" in w for w in assessed(chest, to_image(hu, chest.grid)).warnings)

    none = to_image(np.zeros(chest.hu.shape, np.uint8), chest.grid)
    bare = assess(chest.scan(), chest.image("lungs"), none, none)
    assert any("too few airways" in w for w in bare.warnings)


def test_the_breath_and_the_scans_bias_are_told_apart(chest):
    """A deeper breath thins the lung; what is left of the difference is the scanner's."""
    first = assessed(chest, chest.scan())
    level = dates.sponge_level(-850.0, 1.25)
    assert level == pytest.approx(-880.0)
    own = assessed(chest, chest.scan(level + 850.0, offset=15.0))
    own.volume_ml = 1.25 * first.volume_ml
    breath = dates.inspiration(first, own)
    assert breath.ratio == pytest.approx(1.25)
    assert breath.bias_hu == pytest.approx(15.0, abs=4)
    assert breath.reason is None
    assert dates.warnings(first, own, breath, dates.BiasRemoval()) == []
    own.cut = True
    cut = dates.inspiration(first, own)
    assert "cuts the lungs" in cut.reason
    assert "not corrected" in dates.warnings(first, own, cut, dates.BiasRemoval())[0]


def test_each_removal_can_be_switched_off(chest, balls_in):
    """A lesion thinned by a deeper breath comes back to its excess; without the baseline its offset stays."""
    lesion = balls_in(chest, [(-60, 10, 0)], 14.0)
    first = assessed(chest, chest.scan(200.0 * lesion))
    own = assessed(chest, chest.scan(200.0 / 1.2 * lesion, offset=20.0))
    own.volume_ml = 1.2 * first.volume_ml
    breath = dates.inspiration(first, own)
    lungs = chest.image("lungs")

    def mean(where, **switches) -> float:
        image = dates.comparable(first, own, breath, dates.BiasRemoval(**switches), lungs)
        return float(sitk.GetArrayViewFromImage(image)[where].mean())

    core = balls_in(chest, [(-60, 10, 0)], 10.0)
    healthy = (chest.lungs > 0) & ~balls_in(chest, [(-60, 10, 0)], 25.0)
    assert mean(core) == pytest.approx(200.0, abs=8)
    assert mean(core, inspiration=False) == pytest.approx(200.0 / 1.2, abs=8)
    assert abs(mean(healthy)) < 8
    assert mean(healthy, baseline=False, inspiration=False) == pytest.approx(20.0, abs=8)
    told = dates.summary(first, own, breath, dates.BiasRemoval(baseline=False), softened=False)
    assert told["applied"] == {"baseline": False, "kernel": False, "inspiration": True}


@pytest.mark.slow
@pytest.mark.realdata
def test_little_stands_out_in_a_real_normal_lung(real_chest):
    """And a COVID lung has its lesions, of which the plain CT shows about 2 %."""
    shares = {}
    for name in ("normal001", "covid_p001"):
        ct, lungs = real_chest(name)
        lesions = to_array(assess(ct, lungs).lesions)
        inside = np.count_nonzero(sitk.GetArrayViewFromImage(lungs))
        shares[name] = [np.count_nonzero(lesions == kind) / inside for kind in (1, 2)]
    assert shares["normal001"][0] < 0.01
    assert shares["normal001"][1] < 0.02
    assert 0.018 < shares["covid_p001"][0] < 0.04
