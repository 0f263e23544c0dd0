"""Air around the body is not air in it, however the table and the field of view lie; gas below it is no lung."""

import numpy as np

from LungRecoveryLib.anatomy.body import air_in_body, lung_air
from LungRecoveryLib.anatomy.working import Working
from LungRecoveryLib.grids import Grid

SHAPE = (60, 60, 80)
GRID = Grid(SHAPE[::-1], (2.0, 2.0, 2.0), (-80.0, -920.0, -1200.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
LUNG = (slice(5, 55), slice(15, 35), slice(20, 60))


def scanned(hu: np.ndarray) -> Working:
    """A scan that measured everything, whose pure air is -1000 HU."""
    return Working(GRID, hu.astype(np.float32), np.ones(SHAPE, bool), -1000.0)


def body_with_lung(lung_hu: float = -850.0) -> np.ndarray:
    """HU (z, y, x): a body that the field cuts on the right and in front, a lung in it, air elsewhere."""
    hu = np.full(SHAPE, -1000.0)
    hu[:, :40] = 30.0
    hu[:, :, :10] = 30.0
    hu[LUNG] = lung_hu
    return hu


def test_air_beside_a_table_of_foam_is_outside_in_every_slice():
    """The air between body and field's border is half foam (-940 HU): pure in some slices, not in others."""
    hu = body_with_lung()
    open_air = hu[:, 40:, 10:]
    for z in range(len(open_air)):
        foam = 0.45 if z < 25 else 0.55
        open_air[z, :, : round(foam * open_air.shape[2])] = -940.0
    found = air_in_body(scanned(hu))
    assert found[LUNG].all()
    assert not found[:, 40:].any()


def test_a_lung_that_the_border_cuts_is_not_outside():
    """Emphysema beside the field's border, purer than lung should be in a few slices: still a lung in all."""
    hu = body_with_lung()
    cut = (slice(5, 55), slice(15, 35), slice(60, 80))
    hu[cut] = -930.0
    hu[20:24, 15:35, 60:80] = -970.0
    found = air_in_body(scanned(hu))
    assert found[cut].all()


def test_air_between_a_broad_back_and_the_table_is_outside():
    """A body wider than the field parts the air below it from that above; most of it is the table's foam."""
    hu = np.full(SHAPE, 30.0)
    hu[LUNG] = -850.0
    below = (np.arange(60) >= 40)[:, None] & ((np.abs(np.arange(80) - 40) > 15) | (np.arange(60) >= 58)[:, None])
    hu[:, below] = -940.0
    hu[:, 40:47][:, below[40:47]] = -1000.0
    found = air_in_body(scanned(hu))
    assert found[LUNG].all()
    assert not found[:, below].any()


def test_gas_of_the_stomach_above_bowel_that_is_less_than_empty_is_no_lung():
    """Pure air with lung below it is a cyst or a bronchus; foul gas of the bowel below the stomach is no lung."""
    hu = np.full(SHAPE, 30.0)
    lung = (slice(24, 55), slice(10, 50), slice(10, 60))
    stomach, bowel = (slice(14, 22), slice(15, 35), slice(20, 50)), (slice(4, 12), slice(15, 35), slice(22, 48))
    for part, density in ((lung, -850.0), (stomach, -1000.0), (bowel, -940.0)):
        hu[part] = density
    found = lung_air(scanned(hu), hu < -300)
    assert found[lung].all()
    assert not found[stomach].any()
