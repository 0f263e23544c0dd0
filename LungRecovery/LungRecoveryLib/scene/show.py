"""A study's folder into the scene, as a whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, grid_of, resample, to_array
from LungRecoveryLib.results import StudyResult, TimePointResult, read_study
from LungRecoveryLib.scene import hierarchy, maps, plots, segmentations, sequences, tables, transforms, volumes
from LungRecoveryLib.scene.nodes import (
    Node,
    StudyNodes,
    batch,
    collect,
    mark,
    marked,
    own_folders,
    remove_folders,
    remove_nodes,
    study_names,
)
from LungRecoveryLib.scene.sequences import CT, select_timepoint
from LungRecoveryLib.scene.texts import _

DEFAULT_NAME = "Lung recovery"

# Layers that are no map over the CT.
_NO_MAPS = {"ct", "lungs", "regions", "lesions", "warped", "transform", "inverse_transform"}


def show_study(
    folder: Path,
    scene: Node,
    inputs: Mapping[str, Node] | None = None,
    *,
    name: str = DEFAULT_NAME,
    dates: Mapping[str, str] | None = None,
) -> StudyNodes:
    """Show what `analyze` left in a folder; what an earlier call made under the same name is replaced.

    `inputs` are the volumes that were analysed, by label, where they are in the scene: each follow-up is then shown at
    its own resolution under its transform too. They are not changed; an input under a linear transform counts as lying
    where that puts it. `dates` by label stand in the folders' names; without them, those that the subject hierarchy
    has from DICOM. Nodes rest on no file of the folder afterwards.

    Raises BadInput where the folder is no study, a file is gone or damaged, or an input is not the scan that was
    analysed; the scene is then as before. The views are not touched, see `show_in_views`.
    """
    folder = Path(folder)
    result = read_study(folder)
    inputs = dict(inputs or {})
    unknown = sorted(set(inputs) - {t.label for t in result.timepoints})
    if unknown:
        raise BadInput(f"the study has no time point {unknown[0]}: name the inputs by the labels of the study")
    scene.SaveStateForUndo()
    before, folders = marked(scene, name), own_folders(scene, name)
    with batch(scene):
        try:
            with volumes.Layers(_paths(folder, result)) as layers:
                _Builder(folder, scene, result, inputs, name, layers).build()
            remove_nodes(scene, before)
            nodes = collect(scene, name)
            hierarchy.arrange(nodes, result, inputs, dates or {})
            remove_folders(scene, folders)
        except Exception:
            old = {node.GetID() for node in before}
            remove_nodes(scene, [node for node in marked(scene, name) if node.GetID() not in old])
            raise
    select_timepoint(nodes, nodes.labels[-1])
    return nodes


def find_studies(scene: Node) -> list[StudyNodes]:
    """The studies that a scene shows, also where it was loaded from a file."""
    studies = [collect(scene, name) for name in study_names(scene)]
    for timepoint in (timepoint for study in studies for timepoint in study.timepoints.values()):
        if timepoint.transform is not None:
            transforms.interpolate_linearly(timepoint.transform)
    return studies


def _map_layers(result: StudyResult) -> list[str]:
    """The maps that any time point holds, in the order in which they are offered."""
    held = {layer for timepoint in result.timepoints for layer in timepoint.files} - _NO_MAPS
    known = [layer for layer in maps.known_overlays() if layer in held]
    return [*known, *sorted(held - set(known))]


def _paths(folder: Path, result: StudyResult) -> list[Path]:
    """The images in the order in which the builder takes them."""
    wanted = [(result.baseline, layer) for layer in ("lungs", "regions", "lesions")]
    wanted += [(timepoint, layer) for timepoint in result.followups for layer in ("lesions", "lungs")]
    wanted += [(timepoint, "ct" if timepoint.baseline else "warped") for timepoint in result.timepoints]
    wanted += [(timepoint, layer) for layer in _map_layers(result) for timepoint in result.timepoints]
    return [timepoint.layer(folder, layer) for timepoint, layer in wanted if layer in timepoint.files]


class _Builder:
    """The nodes of one study, made one after the other so that no file is in memory for longer than it is needed."""

    def __init__(
        self,
        folder: Path,
        scene: Node,
        result: StudyResult,
        inputs: dict[str, Node],
        name: str,
        layers: volumes.Layers,
    ):
        self.folder, self.scene, self.result, self.inputs, self.name = folder, scene, result, inputs, name
        self.layers = layers
        self.grid = Grid(**{key: tuple(value) for key, value in result.grid.items()})
        self.lungs: np.ndarray | None = None
        self.sequences: dict[str, Node] = {}

    def build(self) -> None:
        """Make every node; BadInput where a file cannot be used."""
        labels = [t.label for t in self.result.timepoints]
        self.browser = sequences.add_browser(self.scene, self.name, labels)
        self._baseline(self.result.baseline)
        for timepoint in self.result.followups:
            self._followup(timepoint)
        self._ct()
        for layer in _map_layers(self.result):
            self._map(layer)
        self._tables()
        self._charts()

    def _read(self, timepoint: TimePointResult, layer: str) -> sitk.Image:
        return self.layers.take(timepoint.layer(self.folder, layer))

    def _title(self, timepoint: TimePointResult, words: str) -> str:
        return f"{timepoint.label}: {words}"

    def _mark(self, node: Node, role: str, timepoint: TimePointResult | None = None, layer: str | None = None) -> Node:
        return mark(node, self.name, role, timepoint.label if timepoint else None, layer)

    def _baseline(self, timepoint: TimePointResult) -> None:
        if timepoint.label in self.inputs and self.inputs[timepoint.label].GetImageData() is None:
            raise BadInput(f"{self.inputs[timepoint.label].GetName()} has no voxels: load the baseline again")
        if "lungs" in timepoint.files:
            image = self._read(timepoint, "lungs")
            self.lungs = to_array(image) != 0
            self._mark(
                segmentations.add_lungs(self.scene, self._title(timepoint, _("lungs")), image), "lungs", timepoint
            )
        if "regions" in timepoint.files:
            atoms = self._read(timepoint, "regions")
            names, codes = self.result.regions, self.result.region_codes
            self._mark(segmentations.add_regions(self.scene, _("Regions"), atoms, names, codes), "regions")
        self._lesions(timepoint)

    def _followup(self, timepoint: TimePointResult) -> None:
        transform = None
        if "transform" in timepoint.files:
            path = timepoint.layer(self.folder, "transform")
            title = self._title(timepoint, _("transform onto the baseline"))
            transform = self._mark(transforms.add_transform(self.scene, title, path), "transform", timepoint)
        under = [self._lesions(timepoint)]
        lungs = self._read(timepoint, "lungs") if "lungs" in timepoint.files else None
        if timepoint.label in self.inputs:
            source = self.inputs[timepoint.label]
            if lungs is not None:
                volumes.check_input(source, grid_of(lungs), timepoint.label)
            volume = volumes.share_input(self.scene, self._title(timepoint, _("CT, registered")), source)
            under.append(self._mark(volume, "volume", timepoint))
        if lungs is not None:
            node = segmentations.add_lungs(self.scene, self._title(timepoint, _("lungs, registered")), lungs)
            node.GetDisplayNode().SetVisibility(False)
            under.append(self._mark(node, "lungs", timepoint))
        for node in filter(None, under if transform is not None else ()):
            node.SetAndObserveTransformNodeID(transform.GetID())

    def _lesions(self, timepoint: TimePointResult) -> Node | None:
        if "lesions" not in timepoint.files:
            return None
        title = self._title(timepoint, _("lesions"))
        return self._mark(
            segmentations.add_lesions(self.scene, title, self._read(timepoint, "lesions")), "lesions", timepoint
        )

    def _ct(self) -> None:
        """The baseline, and the sequence of the baseline and the follow-ups laid on it."""
        items = {}
        for timepoint in self.result.timepoints:
            layer = "ct" if timepoint.baseline else "warped"
            if layer not in timepoint.files:
                raise BadInput(f"the study holds no {layer} image of {timepoint.label}: analyse the scans again")
            image = self._read(timepoint, layer)
            array = sitk.GetArrayViewFromImage(image)
            items[timepoint.label] = volumes.loose_volume(array, self.grid, timepoint.label)
            if timepoint.baseline:
                title = self._title(timepoint, _("CT"))
                self._mark(volumes.add_volume(self.scene, title, array, self.grid), "volume", timepoint)
        volumes.show_as_ct(self._sequence(CT, _("CT on the baseline"), items))

    def _sequence(self, layer: str, title: str, items: Mapping[str, Node]) -> Node:
        volume = sequences.add_sequence(self.scene, self.name, self.browser, layer, title, items)
        self.sequences[layer] = self.browser.GetSequenceNode(volume)
        return volume

    def _map(self, layer: str) -> None:
        overlay = maps.overlay_of(layer)
        items, highest = {}, 0.0
        for timepoint in self.result.timepoints:
            if layer not in timepoint.files:  # as the changes at the baseline
                blank = volumes.blank_volume(overlay.neutral or 0.0, self.grid, timepoint.label)
                blank.SetAttribute(sequences.EMPTY, "true")
                items[timepoint.label] = blank
                continue
            array = self._map_array(timepoint, layer, overlay)
            if overlay.range is None:
                highest = max(highest, float(np.percentile(array[:: max(1, len(array) // 32)], 99.5)))
            items[timepoint.label] = volumes.loose_volume(array, self.grid, timepoint.label)
        volume = self._sequence(layer, overlay.title, items)
        colours = maps.colour_node(self.scene, self.name, overlay)
        display = volume.GetDisplayNode()
        display.SetAndObserveColorNodeID(colours.GetID())
        display.SetInterpolate(overlay.kind == "image")  # between lung and "no change" outside it lies no third value
        legend = maps.add_legend(volume, self.name, overlay)
        maps.update_legend(legend, overlay, *maps.set_range(display, overlay, *(overlay.range or (0.0, highest))))

    def _map_array(self, timepoint: TimePointResult, layer: str, overlay: maps.Overlay) -> np.ndarray:
        """A map on the study's grid; outside the lungs, where a change means nothing, it says no change."""
        image = self._read(timepoint, layer)
        if not volumes.on_grid(image, self.grid):
            through = None if timepoint.baseline else self._resampling(timepoint)
            image = resample(image, self.grid, through, outside=overlay.neutral or 0.0)
        array = to_array(image)
        if self.lungs is not None and overlay.kind != "image":
            np.putmask(array, ~self.lungs, overlay.neutral or 0.0)
        return array

    def _resampling(self, timepoint: TimePointResult) -> sitk.Transform:
        return sitk.ReadTransform(str(timepoint.layer(self.folder, "transform")))

    def _tables(self) -> None:
        self._mark(tables.add_scores_table(self.scene, _("Scores"), self.result), "table", layer="scores")
        if self.result.comparisons:
            node = tables.add_comparisons_table(self.scene, _("Follow-ups compared"), self.result)
            self._mark(node, "table", layer="comparisons")
        for timepoint in self.result.timepoints:
            node = tables.add_region_table(self.scene, self._title(timepoint, _("regions")), self.result, timepoint)
            self._mark(node, "region table", timepoint)

    def _charts(self) -> None:
        plots.add_scores_chart(self.scene, self.name, self.result)
        for measure in plots.COURSES:
            plots.add_course_chart(self.scene, self.name, self.result, measure)
        if self.lungs is not None:
            plots.add_histogram_chart(self.scene, self.name, self._histograms(self.lungs))

    def _histograms(self, lungs: np.ndarray) -> dict[str, np.ndarray]:
        """The HU of each time point's lungs; a follow-up's voxels count by their volume in the follow-up."""
        found = {}
        for timepoint in self.result.timepoints:
            hu, jacobian = (self._voxels(layer, timepoint) for layer in (CT, "jacobian"))
            found[timepoint.label] = plots.histogram(hu, lungs, None if jacobian is None else np.maximum(jacobian, 0))
        return found

    def _voxels(self, layer: str, timepoint: TimePointResult) -> np.ndarray | None:
        if layer not in self.sequences:
            return None
        node = sequences.filled_item(self.sequences[layer], self.result.timepoints.index(timepoint))
        return None if node is None else volumes.voxels(node)
