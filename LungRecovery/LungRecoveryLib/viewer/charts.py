"""The scene's charts as figures for plotly: the same series, points and colours as in Slicer."""

import math

from LungRecoveryLib.scene import StudyNodes
from LungRecoveryLib.scene.nodes import Node

_SYMBOLS = {"MarkerStyleCircle": "circle", "MarkerStyleSquare": "square", "MarkerStyleDiamond": "diamond"}
_SYMBOLS["MarkerStyleCross"] = "x"
_DASHES = {"LineStyleSolid": "solid", "LineStyleDash": "dash", "LineStyleDot": "dot"}
_LINES_ONLY = ": 95 %"  # what the scene calls a fitted course with its error bars

_DARK, _MIDDLE = 0.3, (0.48, 0.53, 0.58)


def figures(nodes: StudyNodes) -> list[dict]:
    """For each chart of the study its key, its title and its plotly figure (data and layout)."""
    return [{"key": key, **_figure(chart)} for key, chart in nodes.charts.items()]


def _figure(chart: Node) -> dict:
    series = [chart.GetNthPlotSeriesNode(i) for i in range(chart.GetNumberOfPlotSeriesNodes())]
    x_title, y_title = chart.GetXAxisTitle(), chart.GetYAxisTitle()
    layout = {
        "xaxis": {"title": {"text": x_title, "standoff": 8}, "zeroline": False, "automargin": True},
        "yaxis": {"title": {"text": y_title, "standoff": 8}, "zeroline": False, "automargin": True},
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 11}},
        "hovermode": "closest",
        "font": {"size": 12},
        "dragmode": False,
    }
    return {"title": chart.GetName(), "data": [_trace(s, x_title) for s in series], "layout": layout}


def _trace(series: Node, x_title: str) -> dict:
    marker, line = (_name(series, kind) for kind in ("MarkerStyle", "LineStyle"))
    mode = "+".join(part for part, on in (("lines", line in _DASHES), ("markers", marker in _SYMBOLS)) if on)
    shade = series.GetColor()
    shade = _MIDDLE if max(shade) < _DARK else shade  # the page may be dark: nearly black would vanish
    colour = "rgb({},{},{})".format(*(round(255 * c) for c in shade))
    x, y = (_column(series, name) for name in (series.GetXColumnName(), series.GetYColumnName()))
    trace = {"type": "scatter", "name": series.GetName(), "x": x, "y": y, "mode": mode or "lines"}
    trace["line"] = {"color": colour, "width": 2, "dash": _DASHES.get(line, "solid")}
    trace["marker"] = {"color": colour, "size": 9, "symbol": _SYMBOLS.get(marker, "circle")}
    trace["hovertemplate"] = f"{series.GetName()}: %{{y:.3~g}}<br>{x_title}: %{{x:.3~g}}<extra></extra>"
    if series.GetName().endswith(_LINES_ONLY):
        trace |= {"showlegend": False, "hoverinfo": "skip", "hovertemplate": None, "opacity": 0.65}
        trace["line"]["width"] = 1.2
    return trace


def _name(series: Node, kind: str) -> str:
    """The name of a series' marker or line style among the class's constants."""
    value = getattr(series, f"Get{kind}")()
    names = {**_SYMBOLS} if kind == "MarkerStyle" else {**_DASHES}
    return next((name for name in names if getattr(series, name) == value), "")


def _column(series: Node, name: str) -> list[float | None]:
    """A column of a series' table; None breaks the line."""
    column = series.GetTableNode().GetTable().GetColumnByName(name)
    values = [column.GetTuple1(i) for i in range(column.GetNumberOfTuples())]
    return [value if math.isfinite(value) else None for value in values]
