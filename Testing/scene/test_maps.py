"""How maps look: colours symmetric around no change, ranges, legends, and the pictures that come of them."""

import numpy as np
import pytest

from LungRecoveryLib.grids import to_array


def overlay(name: str):
    from LungRecoveryLib.scene.maps import overlay_of

    return overlay_of(name)


def colour_at(display, value: float) -> np.ndarray:
    """RGBA of a value as the display node shows it."""
    low, high = display.GetWindowLevelMin(), display.GetWindowLevelMax()
    index = round((value - low) / (high - low) * 255)
    rgba = [0.0] * 4
    display.GetColorNode().GetColor(index, rgba)
    return np.array(rgba)


def test_the_jacobians_colours_are_symmetric_in_the_logarithm_around_one():
    from LungRecoveryLib.scene.maps import colours, strength

    ratio = overlay("jacobian")
    values = np.array([0.5, 0.8, 1.0, 1.25, 2.0])
    assert np.allclose(strength(values, ratio, 0.5, 2.0), [-1, -0.3219, 0, 0.3219, 1], atol=1e-4)
    table = colours(ratio, 0.5, 2.0)
    at = np.linspace(0.5, 2.0, len(table))
    assert (table[np.abs(np.log2(at)) < 0.05, 3] == 0).all()  # nothing is drawn at no change
    assert (table[np.abs(np.log2(at)) > 0.08, 3] == 1).all()
    assert table[0, 2] > table[0, 0]  # blue for shrunk
    assert table[-1, 0] > table[-1, 2]  # orange for grown


def test_a_lopsided_range_keeps_its_centre():
    """0.8 to 2: an equal change is an equally strong colour on both sides, so 0.8 is far from the end of the scale."""
    from LungRecoveryLib.scene.maps import range_of, strength

    ratio, difference = overlay("jacobian"), overlay("density_change")
    below, above = strength(np.array([0.8, 1.25]), ratio, 0.8, 2.0)
    assert below == pytest.approx(-above)
    assert strength(np.array([-100.0, 100.0]), difference, -50.0, 400.0).tolist() == [-0.25, 0.25]
    assert range_of(ratio, 2.0, 0.5) == (0.5, 2.0)
    assert range_of(ratio, 1.2, 3.0) == (0.99, 3.0)  # no change stays within
    assert range_of(ratio, -1.0, 0.5) == (0.001, 1.01)
    assert range_of(difference, 50.0, 100.0) == (-0.001, 100.0)
    assert range_of(overlay("uncertainty"), 2.0, 2.0) == (2.0, 3.0)


def test_the_legend_names_no_change():
    from LungRecoveryLib.scene.maps import label_count

    for name, low, high in (("jacobian", 0.5, 2.0), ("jacobian", 2 / 3, 1.5), ("density_change", -300.0, 300.0)):
        labels = np.linspace(low, high, label_count(overlay(name), low, high))
        assert np.abs(labels - overlay(name).neutral).min() < 1e-9, (name, low, high)


def test_legends_span_the_range_and_only_the_shown_one_is_visible(shown):
    from LungRecoveryLib.scene import set_overlay

    _application, nodes = shown
    set_overlay(nodes, "day 30", "density_change", range=(-200.0, 100.0))
    legend, display = nodes.legends["density_change"], nodes.maps["density_change"].GetDisplayNode()
    assert {name for name, node in nodes.legends.items() if node.GetVisibility()} == {"density_change"}
    assert legend.GetTitleText() == "Density change (mg/ml)"
    assert legend.GetPrimaryDisplayNode() is display
    assert not legend.GetUseColorNamesForLabels()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((-200.0, 100.0))
    assert (legend.GetNumberOfLabels() - 1) * 200 % 300 == 0  # 0 is among the numbers
    assert colour_at(display, 0.0)[3] == 0
    assert colour_at(display, 100.0)[3] == 1
    set_overlay(nodes, "day 30", None)
    assert not any(node.GetVisibility() for node in nodes.legends.values())
    set_overlay(nodes, "day 30", "density_change", range=(-300.0, 300.0))


def test_the_legend_of_a_failed_registration_says_so(application, study_writer, tmp_path):
    """At that date alone, and again after the scene was saved and loaded, as it is kept with the table."""
    from LungRecoveryLib.scene import find_studies, set_overlay, show_study

    show_study(study_writer(tmp_path / "study", fails=1).folder, application.scene)
    (nodes,) = find_studies(application.scene)
    for label, words in (("day 30", "\nunreliable"), (nodes.labels[-1], ""), ("baseline", "")):
        set_overlay(nodes, label, "jacobian")
        assert nodes.legends["jacobian"].GetTitleText() == "Jacobian (volume ratio)" + words


def in_picture(application, mask, grid) -> np.ndarray:
    """Which pixels of the axial picture lie well within a mask (z, y, x) of the study's grid."""
    from scipy import ndimage

    matrix = application.slices["Red"].GetSliceNode().GetXYToRAS()
    columns, rows = np.meshgrid(np.arange(220) + 0.5, 219.5 - np.arange(220))
    xy = np.stack([columns.ravel(), rows.ravel(), np.zeros(columns.size), np.ones(columns.size)])
    ras = np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(3)]) @ xy
    inside = ndimage.binary_erosion(mask, iterations=2).astype(float)
    index = grid.indices((ras * np.array([[-1], [-1], [1]])).T)[:, ::-1].T
    return (ndimage.map_coordinates(inside, index, order=0, cval=0) > 0.5).reshape(220, 220)


def test_pictures_show_the_map_over_the_lungs_on_the_right_sides(shown, truth):
    """The patient's right lung stands left in the picture and has shrunk: blue; the left one has grown: orange."""
    from LungRecoveryLib.scene import set_overlay

    application, nodes = shown
    labels = to_array(truth.layer("baseline", "lungs"))
    set_overlay(nodes, "day 30", None)
    plain = application.picture("Red").astype(int)
    set_overlay(nodes, "day 30", "jacobian", 0.6)
    coloured = application.picture("Red").astype(int)
    right, left = (in_picture(application, labels == value, truth.grid) for value in (1, 2))
    outside = in_picture(application, labels == 0, truth.grid)
    assert right.sum() > 1000
    assert left.sum() > 1000
    assert np.argwhere(right)[:, 1].mean() < 110 < np.argwhere(left)[:, 1].mean()
    assert (coloured[right][:, 2] > coloured[right][:, 0] + 30).all()
    assert (coloured[left][:, 0] > coloured[left][:, 2] + 30).all()
    assert np.array_equal(coloured[outside], plain[outside])
    display = nodes.maps["jacobian"].GetDisplayNode()
    expected = 0.6 * 255 * colour_at(display, 0.7)[:3] + 0.4 * plain[right]
    assert np.abs(coloured[right] - expected).max() < 6


def test_opacity_and_the_baseline_in_pictures(shown):
    """At opacity 0, and at the baseline, which has no change to show, there is only the CT."""
    from LungRecoveryLib.scene import set_foreground_opacity, set_overlay

    application, nodes = shown
    set_overlay(nodes, "day 30", None)
    plain = application.picture("Red")
    set_overlay(nodes, "day 30", "jacobian", 1.0)
    assert np.abs(application.picture("Red").astype(int) - plain).max() > 80
    set_foreground_opacity(nodes, 0.0)
    assert np.array_equal(application.picture("Red"), plain)
    set_overlay(nodes, "baseline", None)
    baseline = application.picture("Red")
    for name in ("jacobian", "density_change", "similarity"):
        set_overlay(nodes, "baseline", name, 1.0)
        assert np.array_equal(application.picture("Red"), baseline), name


def test_the_slider_moves_the_map_with_the_ct(shown, truth):
    """Slicer's own sequence toolbar sets only the browser's item: CT and map follow together."""
    from LungRecoveryLib.scene import set_overlay
    from LungRecoveryLib.scene.volumes import voxels

    application, nodes = shown
    set_overlay(nodes, "day 30", "jacobian")
    seen = {}
    for index, label in enumerate(truth.labels):
        nodes.browser.SetSelectedItemNumber(index)
        application.logics[0].UpdateAllProxyNodes()
        assert nodes.selected == label
        seen[label] = float(voxels(nodes.maps["jacobian"]).max()), float(voxels(nodes.maps["ct"]).mean())
    highest = [round(jacobian, 3) for jacobian, _ct in seen.values()]
    assert highest == [1.0, 1.25, 1.5]
    assert len({ct for _jacobian, ct in seen.values()}) == 3
    assert [nodes.browser.GetMasterSequenceNode().GetNthIndexValue(i) for i in range(3)] == [
        "baseline",
        "day 30",
        "Kontrolle ä 2",
    ]


def test_labels_that_are_alike_without_their_signs_stay_apart():
    from LungRecoveryLib.scene.sequences import _index_values

    assert _index_values(["a;b", "a:b", "a b (2)", ";"]) == ["a b", "a b (2)", "a b (2) (2)", "visit"]
