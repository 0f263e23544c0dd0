"""The dates of a study: each enhanced against the first, what was taken out recorded, refusals kept as words."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.parenchyma.dates import BiasRemoval
from LungRecoveryLib.parenchyma.noise import estimate_noise
from LungRecoveryLib.parenchyma.scan import ScanNumbers
from LungRecoveryLib.parenchyma.series import Series
from LungRecoveryLib.results import plain


def run(chest, scans, **switches):
    lungs = chest.image("lungs")
    noises = [estimate_noise(ct, lungs) for ct in scans]
    series = Series(BiasRemoval(**switches), noises)
    tubes = chest.image("airways"), chest.image("vessels")
    return [series.enhance(ct, lungs, *tubes, noise) for ct, noise in zip(scans, noises, strict=True)]


@pytest.fixture(scope="module")
def dates(chest, balls_in):
    """A lesion that stays, scanned soft, then 30 HU higher, sharp and noisy; and the lesion's core."""
    lesion, core = (balls_in(chest, [(-60, 15, 0)], radius) for radius in (15.0, 10.0))
    scans = [
        chest.scan(120.0 * lesion, noise=12, kernel_mm=1.4),
        chest.scan(120.0 * lesion, offset=30, noise=40, kernel_mm=0.5),
    ]
    return scans, core


def test_an_unchanged_lesion_stays_what_it_was(chest, dates, balls_in):
    scans, core = dates
    first, second = run(chest, scans)
    means = [float(sitk.GetArrayViewFromImage(date.image)[core].mean()) for date in (first, second)]
    assert abs(means[0] - means[1]) < 5
    assert first.summary["between_dates"]["applied"]["kernel"] is False
    told = second.summary["between_dates"]
    assert told["applied"] == {"baseline": True, "kernel": True, "inspiration": True}
    assert told["baseline_shift_hu"] == pytest.approx(30, abs=4)
    assert any("sharper" in warning for warning in second.warnings)
    quiet = balls_in(chest, [(58, 0, 0)], 25.0) & ~chest.tubes
    spreads = [np.std(sitk.GetArrayViewFromImage(date.image)[quiet]) for date in (first, second)]
    assert spreads[1] < 25  # 40 HU of noise brought to the softer kernel


def test_switches_leave_the_bias_in(chest, dates):
    scans, core = dates
    first, second = run(chest, scans, baseline=False, kernel=False)
    means = [float(sitk.GetArrayViewFromImage(date.image)[core].mean()) for date in (first, second)]
    assert means[1] - means[0] == pytest.approx(30, abs=6)
    assert second.summary["between_dates"]["applied"] == {"baseline": False, "kernel": False, "inspiration": True}


def test_the_summary_is_json_and_gives_the_numbers_back(chest, dates):
    (first,) = run(chest, dates[0][:1])
    numbers = ScanNumbers.from_summary(json.loads(json.dumps(plain(first.summary))))
    assert numbers.baseline.level_hu == pytest.approx(-850, abs=5)
    assert numbers.volume_ml == first.summary["volume_ml"]


def test_a_date_without_healthy_lung_is_left_out_with_its_reason(chest):
    (date,) = run(chest, [chest.scan(700.0)])
    assert date.image is None
    assert date.summary is None
    assert "no healthy parenchyma" in date.warnings[0]
