"""The curves of a training run are read from either log as they were logged, and drawn."""

import numpy as np
import pytest
from PIL import Image

from LungRecoveryLib.errors import BadInput
from LungRecoveryTrainingLib.evaluation.charts import read_curves, save_cases, save_curves

CSV = """epoch,step,train/loss,val/loss,val/tre_mm
0,9,1.5,,
0,9,,1.7,9.0
1,19,0.5,,
1,19,,nan,4.0
2,29,,0.7,
"""


def test_curves_of_a_csv_log_lack_what_is_not_finite(tmp_path):
    (tmp_path / "version_0").mkdir()
    (tmp_path / "version_0" / "metrics.csv").write_text(CSV)
    curves = read_curves(tmp_path)
    assert set(curves) == {"train/loss", "val/loss", "val/tre_mm"}
    np.testing.assert_array_equal(curves["train/loss"], [[9, 19], [1.5, 0.5]])
    np.testing.assert_array_equal(curves["val/loss"], [[9, 29], [1.7, 0.7]])


def test_curves_of_tensorboard_are_those_that_were_written(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "version_0")) as writer:
        for step, value in ((10, 2.0), (20, 1.0), (30, 0.5)):
            writer.add_scalar("train/loss", value, step)
        writer.add_scalar("hp_metric", -1, 0)
    curves = read_curves(tmp_path)
    assert set(curves) == {"train/loss"}
    np.testing.assert_array_equal(curves["train/loss"], [[10, 20, 30], [2.0, 1.0, 0.5]])


def test_a_run_without_a_log_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"no metrics\.csv"):
        read_curves(tmp_path)
    with pytest.raises(BadInput, match="does not exist"):
        read_curves(tmp_path / "gone")
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss\n0,9,1.5\n")
    with pytest.raises(BadInput, match="no curve yet"):
        read_curves(tmp_path)


def test_curves_and_cases_are_drawn(tmp_path):
    steps = np.arange(5)
    curves = {
        "train/loss": (steps, 1.0 / (1 + steps)),
        "val/loss": (steps, 2.0 / (1 + steps)),
        "val/tre": (steps, steps),
    }
    save_curves(curves, tmp_path / "curves.png")
    save_cases(["a", "b"], {"before": [9.0, 12.0], "refined": [0.5, None]}, "tre_mm", tmp_path / "cases.png")
    for name in ("curves", "cases"):
        assert np.asarray(Image.open(tmp_path / f"{name}.png"), float).std() > 5
