"""The study's numbers as tables and charts."""

import json

import numpy as np
import pytest

from LungRecoveryLib.anatomy.regions import REGION_NAMES
from LungRecoveryLib.grids import to_array


def cells(node) -> dict[str, list[str]]:
    """A table node's columns as text."""
    table = node.GetTable()
    return {
        table.GetColumnName(c): [str(table.GetValue(r, c).ToString()) for r in range(table.GetNumberOfRows())]
        for c in range(table.GetNumberOfColumns())
    }


def numbers(node) -> dict[str, np.ndarray]:
    return {title: np.array([float(v) for v in column]) for title, column in cells(node).items()}


def series_of(chart) -> dict:
    """A chart's series by name."""
    nodes = [chart.GetNthPlotSeriesNode(i) for i in range(chart.GetNumberOfPlotSeriesNodes())]
    return {node.GetName(): node for node in nodes}


def test_the_table_of_scores_has_a_row_for_each_time_point(shown, truth):
    from LungRecoveryLib.scene import label_of_row, region_of_row

    _application, nodes = shown
    table = cells(nodes.tables["scores"])
    assert table["Time point"] == list(truth.labels)
    assert table["Days"] == ["0", "30", "90"]
    assert table["Tissue recovery"] == ["", "0.44", "-0.25"]  # undefined is empty, the minus can be read by programs
    assert table["Class"] == ["", "partial", "complete"]
    assert table["Registration"] == ["", "Passed", "Passed"]
    assert table["Mean density (HU)"] == ["-791", "-800", "-808"]
    assert table["Volume change (%)"] == ["", "8", "8"]
    assert label_of_row(nodes.tables["scores"], 1) == "day 30"
    assert label_of_row(nodes.tables["scores"], 3) is None
    assert region_of_row(nodes.tables["scores"], 0) is None


def test_the_region_tables_name_their_regions(shown):
    from LungRecoveryLib.scene import region_of_row

    _application, nodes = shown
    node = nodes.timepoints["day 30"].table
    table = cells(node)
    regions = [region_of_row(node, row) for row in range(len(table["Region"]))]
    assert sorted(regions) == sorted(REGION_NAMES)
    assert [REGION_NAMES[region] for region in regions] == table["Region"]
    assert region_of_row(node, len(regions)) is None
    assert table["Tissue recovery"][regions.index("core")] == ""
    assert table["Tissue recovery"][regions.index("left_upper")] == "0.44"
    assert table["Density change (mg/ml)"][0] == "-60"
    assert "Tissue recovery" not in cells(nodes.baseline.table)
    assert cells(nodes.baseline.table)["Abnormal lung (%)"][0] == "21.3"


def test_followups_are_compared(shown):
    _application, nodes = shown
    table = cells(nodes.tables["comparisons"])
    assert (table["Earlier"], table["Later"], table["Days"]) == (["day 30"], ["Kontrolle; ä=2"], ["60"])
    assert table["Tissue recovery"] == ["0.67"]
    assert table["Mean density (HU)"] == ["-8"]
    assert "Mass (g)" not in table  # nothing is known of it


def test_error_bars_reach_from_low_to_high():
    from LungRecoveryLib.scene.plots import error_bars

    path = error_bars([0.0, 10.0, 20.0], [1.0, float("nan"), 4.0], [3.0, 5.0, 4.5], 0.5)
    drawn = path[~np.isnan(path).any(axis=1)]
    assert set(drawn[:, 0]) == {-0.5, 0.0, 0.5, 19.5, 20.0, 20.5}
    first = drawn[np.abs(drawn[:, 0]) < 1, 1]
    assert (first.min(), first.max()) == (1.0, 3.0)
    gaps = np.flatnonzero(np.isnan(path).any(axis=1))
    assert all(np.ptp(part[:, 0]) <= 1.0 for part in np.split(path, gaps + 1) for part in [part[:-1]] if len(part))
    assert error_bars([], [], [], 1.0).shape == (0, 2)


def test_the_scores_chart_shows_points_intervals_and_course(shown):
    _application, nodes = shown
    chart = nodes.charts["scores"]
    assert chart.GetXAxisTitle() == "Days since baseline"
    assert "Research use only" in chart.GetTitle()
    low, high = chart.GetXAxisRange()
    assert low < 0
    assert high > 120  # the legend lies right of the last point
    series = series_of(chart)
    assert list(series) == [
        f"{name}{what}"
        for name in ("Tissue recovery", "Jacobian score", "Jacobian score, normalised")
        for what in ("", ": 95 %")
    ]
    points = numbers(series["Jacobian score"].GetTableNode())
    assert points["value"].tolist() == [1.0, 0.7, 0.7]
    assert points["x"] == pytest.approx([0, 30, 90], abs=2)
    assert points["low"] == pytest.approx([1 - 1.96 * 0.02, 0.7 - 1.96 * 0.014, 0.7 - 1.96 * 0.014])
    assert points["high"][0] == 1.0  # a score cannot exceed 1
    lines = numbers(series["Jacobian score: 95 %"].GetTableNode())
    assert np.isnan(lines["y"]).sum() >= 3
    drawn = lines["y"][~np.isnan(lines["y"])]
    assert {round(v, 6) for v in (0.0, 0.45, 0.9)} <= {round(v, 6) for v in drawn}  # the course
    assert {round(v, 6) for v in points["low"]} <= {round(v, 6) for v in drawn}  # the bars
    assert {nodes.charts[k].GetYAxisTitle() for k in ("abnormal_percent", "mean_hu")} == {"%", "HU"}


def test_unreliable_points_are_crossed_out(application, study_writer, tmp_path):
    from LungRecoveryLib.scene import show_study

    nodes = show_study(study_writer(tmp_path / "study", fails=1).folder, application.scene)
    series = series_of(nodes.charts["scores"])
    crossed = series["Jacobian score: unreliable"]
    assert crossed.GetMarkerStyle() == crossed.MarkerStyleCross
    assert crossed.GetLineStyle() == crossed.LineStyleNone
    columns = numbers(crossed.GetTableNode())
    assert np.isnan(columns["unreliable"]).tolist() == [True, False, True]
    assert np.isnan(columns["reliable"]).tolist() == [False, True, False]
    assert cells(nodes.tables["scores"])["Registration"][1] == "Failed"
    assert "unreliable" not in " ".join(series_of(nodes.charts["mean_hu"]))  # densities do not rest on registration
    regions = [cells(made.table) for made in nodes.timepoints.values()]
    assert [set(table.get("Registration", [])) for table in regions] == [set(), {"Failed"}, set()]


def test_what_the_reader_said_stands_in_the_tables(application, study_writer, tmp_path):
    """A registration that passed and was rejected is not said to have passed."""
    from LungRecoveryLib.scene import show_study

    folder = study_writer(tmp_path / "study", fails=1).folder
    content = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    reader = {"verdict": "not usable", "comment": "left base misaligned"}
    content["timepoints"][1]["quality"] |= {"verdict": "pass", "reader": reader}
    (folder / "study.json").write_text(json.dumps(content), encoding="utf-8")
    nodes = show_study(folder, application.scene)
    assert cells(nodes.tables["scores"])["Registration"] == ["", "Rejected", "Passed"]
    assert set(cells(nodes.timepoints["day 30"].table)["Registration"]) == {"Rejected"}


def test_the_histogram_counts_volume_in_the_followup(shown, truth):
    """A lung that is half shrunk, half grown counts by the follow-up's volumes: J weighs the voxels."""
    from LungRecoveryLib.scene.plots import HISTOGRAM_BIN, HISTOGRAM_LOW, histogram

    _application, nodes = shown
    columns = numbers(next(iter(series_of(nodes.charts["histogram"]).values())).GetTableNode())
    assert list(columns)[1:] == list(truth.labels)
    lungs = to_array(truth.layer("baseline", "lungs")) != 0
    hu = to_array(truth.layer("baseline", "ct"))
    for label in truth.labels:
        assert columns[label].sum() == pytest.approx(100.0)
    centres = columns["HU"]
    assert (columns["baseline"] * centres).sum() / 100 == pytest.approx(hu[lungs].mean(), abs=HISTOGRAM_BIN / 2)
    flat, weights = np.array([-800.0, -500.0, 5000.0]), np.array([3.0, 1.0, 0.0])
    shares = histogram(flat, np.ones(3, bool), weights)
    assert shares[int((-800 - HISTOGRAM_LOW) // HISTOGRAM_BIN)] == 75.0
    assert shares[int((-500 - HISTOGRAM_LOW) // HISTOGRAM_BIN)] == 25.0


def test_tables_know_their_rows_after_json(shown):
    """The rows' regions are kept as JSON in an attribute, which is saved with the scene."""
    _application, nodes = shown
    kept = json.loads(nodes.timepoints["day 30"].table.GetAttribute("LungRecovery.Regions"))
    assert kept[0] == "lungs"
