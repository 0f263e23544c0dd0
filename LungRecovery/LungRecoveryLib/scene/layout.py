"""The layout "Lung recovery": three slice views, 3D and chart behind tabs, the table below."""

from __future__ import annotations

from LungRecoveryLib.scene.nodes import Node

LAYOUT_NAME = "Lung recovery"
LAYOUT_ID = 5217  # any number that Slicer and its extensions leave free
SLICE_VIEWS = ("Red", "Yellow", "Green")
PLOT_VIEW, TABLE_VIEW, THREED_VIEW = "PlotView1", "TableView1", "1"

_SLICE = """<view class="vtkMRMLSliceNode" singletontag="{tag}">
  <property name="orientation" action="default">{orientation}</property>
  <property name="viewlabel" action="default">{label}</property>
  <property name="viewcolor" action="default">{colour}</property>
</view>"""
_ORIENTATIONS = (("Axial", "R", "#F34A33"), ("Sagittal", "Y", "#EDD54C"), ("Coronal", "G", "#6EB04B"))


def layout_xml() -> str:
    """The description of the layout for vtkMRMLLayoutNode."""
    axial, sagittal, coronal = (
        _SLICE.format(tag=tag, orientation=orientation, label=label, colour=colour)
        for tag, (orientation, label, colour) in zip(SLICE_VIEWS, _ORIENTATIONS, strict=True)
    )
    return f"""<layout type="vertical" split="true">
<item splitSize="760"><layout type="vertical">
<item><layout type="horizontal"><item>{axial}</item><item>{sagittal}</item></layout></item>
<item><layout type="horizontal"><item>{coronal}</item>
<item><layout type="tab">
<item name="3D"><view class="vtkMRMLViewNode" singletontag="{THREED_VIEW}">
  <property name="viewlabel" action="default">{THREED_VIEW}</property></view></item>
<item name="Chart"><view class="vtkMRMLPlotViewNode" singletontag="{PLOT_VIEW}">
  <property name="viewlabel" action="default">P</property></view></item>
</layout></item></layout></item>
</layout></item>
<item splitSize="240"><view class="vtkMRMLTableViewNode" singletontag="{TABLE_VIEW}">
  <property name="viewlabel" action="default">T</property></view></item>
</layout>"""


def add_layout(layout_node: Node) -> int:
    """Make the layout known to a layout node; returns the number to set as its view arrangement."""
    if not layout_node.IsLayoutDescription(LAYOUT_ID):
        layout_node.AddLayoutDescription(LAYOUT_ID, layout_xml())
    elif layout_node.GetLayoutDescription(LAYOUT_ID) != layout_xml():
        layout_node.SetLayoutDescription(LAYOUT_ID, layout_xml())
    return LAYOUT_ID
