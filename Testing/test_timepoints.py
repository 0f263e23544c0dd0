"""Order, days and overlap of the scans of a job: what is known before any slow work."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib import images
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, to_array, to_image
from LungRecoveryLib.job import TimePoint
from LungRecoveryLib.timepoints import Visit, check_overlap, order_by_days

START = date(2021, 3, 1)
UP = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
DOWN = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def points(*days: float | None, **labels: str) -> list[TimePoint]:
    return [TimePoint(Path(f"{name}.mha"), labels.get(name), day) for name, day in zip("abcd", days, strict=False)]


def dates(*offsets: int | None) -> list[date | None]:
    return [None if offset is None else START + timedelta(offset) for offset in offsets]


def test_known_dates_put_the_scans_in_order():
    """Without --days the dates decide, the earliest scan becomes the baseline, and the user is told."""
    ordered, order, warnings = order_by_days(points(None, None, None), dates(90, 0, 30))
    assert order == [1, 2, 0]
    assert [item.days for item in ordered] == [0, 30, 90]
    assert "order of their dates" in warnings[0]
    _, order, warnings = order_by_days(points(None, None, None), dates(0, 30, 90))
    assert order == [0, 1, 2]
    assert not warnings


def test_given_days_stand_where_no_date_contradicts_them():
    """Days count from the baseline's and put follow-ups in order; a day's difference to the dates is let pass."""
    ordered, order, _ = order_by_days(points(5, 95, 35), dates(None, None, None))
    assert (order, [item.days for item in ordered]) == ([0, 2, 1], [0, 30, 90])
    ordered, _, _ = order_by_days(points(0, 31), dates(0, 30))
    assert ordered[1].days == 31
    with pytest.raises(BadInput, match=r"b\.mha is dated 30 days after a\.mha, but --days says 60"):
        order_by_days(points(0, 60), dates(0, 30))


def test_without_dates_the_visits_keep_their_order_and_no_day():
    """An undated visit gets no day; the warning names the option that would give it one."""
    ordered, order, warnings = order_by_days(points(None, None), dates(None, None))
    assert (order, [item.days for item in ordered]) == ([0, 1], [None, None])
    assert "--days" in warnings[0]
    ordered, _, warnings = order_by_days(points(None, None, None), dates(0, None, 30))
    assert [item.days for item in ordered] == [0, None, 30]
    assert not warnings


def test_contradictions_are_bad_input():
    """A named baseline that is not the earliest, and partly known dates out of order, are for the user to solve."""
    with pytest.raises(BadInput, match=r"a\.mha is labelled baseline but dated after b\.mha"):
        order_by_days(points(None, None, a="Baseline"), dates(30, 0))
    with pytest.raises(BadInput, match="not in the order of their dates"):
        order_by_days(points(None, None, None), dates(0, 60, None)[::-1])
    assert order_by_days(points(None, None, a="late"), dates(30, 0))[1] == [1, 0]


def visit(box: tuple[slice, slice, slice], label: int, z: float = 0.0, direction=UP, x: float = 0.0) -> Visit:
    """A visit whose lung mask is a box of one label on a 20 mm cube that starts at x and z mm."""
    array = np.zeros((20, 20, 20), np.uint8)
    array[box] = label
    mask = to_image(array, Grid((20, 20, 20), (1.0, 1.0, 1.0), (x, 0.0, z), direction))
    scan = images.Scan(sitk.Cast(mask, sitk.sitkInt16), f"lung{label}.mha")
    return Visit("x", "x", None, scan, mask)


INNER = (slice(5, 15),) * 3


def test_crops_of_opposite_sides_do_not_overlap():
    """A right and a left lung are never registered onto each other, wherever their crops lie in space."""
    with pytest.raises(BadInput, match=r"lung2\.mha: shows the left lung but the baseline lung1\.mha shows the right"):
        check_overlap(visit(INNER, 1), visit(INNER, 2, x=15.0))
    check_overlap(visit(INNER, 1), visit(INNER, 1, z=-920.0))


def test_a_lone_lung_in_the_same_place_keeps_its_side():
    """Two different guesses about one lung are no reason to refuse it: the baseline's holds, and the user is told."""
    baseline, followup = visit(INNER, 1), visit(INNER, 2, x=2.0)
    check_overlap(baseline, followup)
    assert set(np.unique(to_array(followup.lungs))) == {0, 1}
    assert to_array(followup.lungs).sum() == 10**3
    assert "right" in followup.warnings[0]


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_crops_of_different_heights_do_not_overlap(direction):
    """An upper and a lower part, cut by their fields and apart in space, are refused; shifted wholes are not."""
    sign = direction[-1]
    lower_ends, upper_ends = (slice(0, 15), slice(5, 20)) if sign > 0 else (slice(5, 20), slice(0, 15))
    cut_below = (lower_ends, *INNER[1:])  # an upper part: the lower face of the field cuts it
    cut_above = (upper_ends, *INNER[1:])
    upper, lower = visit(cut_below, 1, 100.0, direction), visit(cut_above, 1, 0.0, direction)
    for pair in ((upper, lower), (lower, upper)):
        with pytest.raises(BadInput, match="another part of the lung"):
            check_overlap(*pair)
    check_overlap(visit(cut_below, 1, 4.0, direction), lower)  # they overlap in part
    check_overlap(visit(INNER, 1, 100.0, direction), visit(INNER, 1, 0.0, direction))  # whole lungs, the table moved
