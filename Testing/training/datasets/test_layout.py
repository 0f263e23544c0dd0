"""What all data sets have in common: they say what to download, and what they cannot be asked."""

import pytest

from LungRecoveryLib.errors import BadInput
from LungRecoveryTrainingLib.datasets import LAYOUTS, prepare


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if not layout.generates])
def test_says_what_to_download(tmp_path, name):
    """Every data set that is not there tells in one sentence what to download and how it is to lie."""
    for root in (tmp_path / "gone", tmp_path):
        with pytest.raises(BadInput, match="ROOT") as error:
            prepare(name, root)
        assert LAYOUTS[name].download in str(error.value)
    assert not (tmp_path / "gone").exists()


def test_unknown_names(tmp_path):
    """A data set or option that does not exist is told with those that do."""
    with pytest.raises(BadInput, match="no data set 'mnist'; choose one of bimcv, covid-ct-plus, dirlab-4dct"):
        prepare("mnist", tmp_path)
    with pytest.raises(BadInput, match="stoic has no option colour; its options are: val, test"):
        prepare("stoic", tmp_path, colour=1)
    with pytest.raises(BadInput, match=r"ends in \.csv or \.json"):
        prepare("stoic", tmp_path, tmp_path / "manifest.txt")
