"""What the page knows before anything is shown; light, because the page is served before what draws is imported."""

from typing import Any

from LungRecoveryLib import RESEARCH_USE_ONLY


def initial() -> dict[str, Any]:
    """Every name that the page's template uses."""
    return {
        "phase": "loading",
        "notice": RESEARCH_USE_ONLY,
        "progress": {"stage": "", "fraction": 0.0, "message": ""},
        "failure": "",
        "unread": 0,
        "message": "",
        "timepoints": [],
        "timepoint": "",
        "overlays": [],
        "overlay": "",
        "opacity": 0.6,
        "legend": None,
        "explanation": "",
        "kinds": [],
        "windows": [],
        "window_now": "lung",
        "compare": "",
        "fade": 0.5,
        "layout": "three",
        "plane": "Axial",
        "panes": [],
        "readout": {"place": "", "values": [], "region": ""},
        "regions": {"columns": [], "rows": []},
        "scores": {"columns": [], "rows": []},
        "quality": {"columns": [], "rows": []},
        "scans": {"columns": [], "rows": []},
        "account": [],
        "caution": "",
        "region": "",
        "charts": [],
        "charts_ready": 0,
        "chart": "",
        "files": [],
        "warnings": [],
        "absent": [],
        "tab": "regions",
        "help": False,
    }
