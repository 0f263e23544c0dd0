"""The number of threads changes no result beyond what rounding does."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.grids import grid_of, to_array, transform_to_field
from LungRecoveryLib.job import job_from
from LungRecoveryLib.study import analyze


@pytest.mark.slow
def test_one_thread_and_two_give_the_same(small_scans, tmp_path):
    """Scores within 1e-3, displacements in the lungs within 0.02 mm at the 99th percentile."""
    points = [
        {"path": str(small_scans / f"{i}.mha"), "days": 30 * i, "lungs": str(small_scans / f"lungs{i}.mha")}
        for i in (0, 1)
    ]
    scores, fields = [], []
    for threads in (1, 2):
        output = tmp_path / str(threads)
        settings = {"spacing_mm": 3.0, "device": "cpu", "seed": 3, "threads": threads}
        analyze(job_from({"timepoints": points, "output": str(output), **settings}))
        content = json.loads((output / "study.json").read_text(encoding="utf-8"))
        scores.append(content["timepoints"][1]["scores"])
        lungs = sitk.ReadImage(str(output / "baseline" / "lungs.nii.gz"))
        transform = sitk.ReadTransform(str(output / content["timepoints"][1]["files"]["transform"]))
        fields.append(transform_to_field(transform, grid_of(lungs))[:, to_array(lungs) > 0])
    apart = np.linalg.norm(fields[0] - fields[1], axis=0)
    assert np.percentile(apart, 99) <= 0.02, np.percentile(apart, [50, 99, 100])
    for region, values in scores[0].items():
        for name, value in values.items():
            other = scores[1][region][name]
            if isinstance(value, float):
                assert abs(value - other) <= 1e-3, (region, name, value, other)
            else:
                assert value == other, (region, name)
