"""A study's folder as nodes of a MRML scene, in Slicer and with the package slicer-core alike.

Nothing here needs Qt, the Slicer application or a view, and nothing brings torch; nothing reads voxels but the study's
own files. Import it only where `slicer` can be imported.

    nodes = show_study(folder, slicer.mrmlScene, inputs={"baseline": volume, "day 30": volume2})
    slicer.app.layoutManager().setLayout(add_layout(slicer.app.layoutManager().layoutLogic().GetLayoutNode()))
    show_in_views(nodes)
    set_overlay(nodes, "day 30", "jacobian", opacity=0.6, range=(0.5, 2.0))

Labels are those of `study.json`, the baseline's included.
"""

from LungRecoveryLib.scene.comparison import MODES, set_comparison
from LungRecoveryLib.scene.layout import LAYOUT_ID, LAYOUT_NAME, add_layout, layout_xml
from LungRecoveryLib.scene.maps import Overlay
from LungRecoveryLib.scene.nodes import StudyNodes, TimePointNodes, remove_study
from LungRecoveryLib.scene.segmentations import LUNG_VALUES, labels_of, lesion_labels
from LungRecoveryLib.scene.sequences import select_timepoint
from LungRecoveryLib.scene.show import (
    DEFAULT_NAME,
    Opening,
    all_at_once,
    find_studies,
    show_in_steps,
    show_study,
)
from LungRecoveryLib.scene.tables import label_of_row, region_of_row
from LungRecoveryLib.scene.transforms import landmark_errors
from LungRecoveryLib.scene.views import (
    change_map,
    jump_to,
    overlays,
    range_now,
    region_point,
    set_foreground_opacity,
    set_linked,
    set_overlay,
    set_range,
    show_chart,
    show_in_views,
    show_lungs_in_3d,
    show_region,
    show_table,
)

__all__ = [
    "DEFAULT_NAME",
    "LAYOUT_ID",
    "LAYOUT_NAME",
    "LUNG_VALUES",
    "MODES",
    "Opening",
    "Overlay",
    "StudyNodes",
    "TimePointNodes",
    "add_layout",
    "all_at_once",
    "change_map",
    "find_studies",
    "jump_to",
    "label_of_row",
    "labels_of",
    "landmark_errors",
    "layout_xml",
    "lesion_labels",
    "overlays",
    "range_now",
    "region_of_row",
    "region_point",
    "remove_study",
    "select_timepoint",
    "set_comparison",
    "set_foreground_opacity",
    "set_linked",
    "set_overlay",
    "set_range",
    "show_chart",
    "show_in_steps",
    "show_in_views",
    "show_lungs_in_3d",
    "show_region",
    "show_study",
    "show_table",
]
