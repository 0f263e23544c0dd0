"""The nodes of one study, made in steps that each take a few images, so that no file is in memory for longer than it is
needed, and a program that must go on answering can do something else between two of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, crop_to_mask, grid_of, resample, to_array, window
from LungRecoveryLib.image_files import read_layer, read_stored_transform
from LungRecoveryLib.results import StudyResult, TimePointResult
from LungRecoveryLib.scene import maps, plots, segmentations, sequences, tables, transforms, volumes
from LungRecoveryLib.scene.nodes import Node, mark
from LungRecoveryLib.scene.sequences import CT
from LungRecoveryLib.scene.texts import _

# Layers that are no map over the CT.
_NO_MAPS = {"ct", "lungs", "lobes", "regions", "lesions", "warped", "transform", "inverse_transform"}


def map_layers(result: StudyResult) -> list[str]:
    """The maps that any time point holds, in the order in which they are offered."""
    held = {layer for timepoint in result.timepoints for layer in timepoint.files} - _NO_MAPS
    known = [layer for layer in maps.known_overlays() if layer in held]
    return [*known, *sorted(held - set(known))]


@dataclass(frozen=True)
class Step:
    """Some of a study's nodes: the images that they take, in that order, and the function that makes them."""

    paths: tuple[Path, ...]
    make: Callable[[], None]


class Builder:
    """Makes the nodes of one study. `layers` must be set to where its images come from before a step is made.

    Maps have the voxels of the box around the lungs only: outside they say nothing, and it halves time and memory.
    """

    def __init__(
        self,
        folder: Path,
        scene: Node,
        result: StudyResult,
        inputs: Mapping[str, Node],
        name: str,
    ):
        self.folder, self.scene, self.result, self.inputs, self.name = folder, scene, result, inputs, name
        self.layers: volumes.Layers | None = None
        self.grid = Grid(**{key: tuple(value) for key, value in result.grid.items()})
        self.lungs: np.ndarray | None = None
        self.map_grid = self.grid  # until the lungs are known
        self.sequences: dict[str, Node] = {}
        self.transforms: dict[str, Node] = {}

    def steps(self) -> list[Step]:
        """Everything; a step raises BadInput where a file cannot be used."""
        begin, *first = self.first_steps(None)
        own = [
            self._step([(timepoint, "lungs")], lambda timepoint=timepoint: self._followup(timepoint))
            for timepoint in self.result.followups
        ]
        return [begin, *own, *first, *self.later_steps(None)]

    def first_steps(self, chosen: str | None) -> list[Step]:
        """What shows the CT of every time point, with a map over it where one is chosen, and the tables."""
        baseline = self.result.baseline
        scans = [(t, "ct" if t.baseline else "warped") for t in self.result.timepoints]
        return [
            self._step([(baseline, "lungs"), (baseline, "regions")], self._begin),
            self._step(scans, self._ct),
            *([] if chosen is None else [self._map_step(chosen)]),
            self._step([], self._tables),
        ]

    def later_steps(self, chosen: str | None) -> list[Step]:
        """The other maps, the lesions and the charts: what a slice view or a page can show besides."""
        others = [self._map_step(layer) for layer in map_layers(self.result) if layer != chosen]
        lesions = [
            self._step([(timepoint, "lesions")], lambda timepoint=timepoint: self._lesions(timepoint))
            for timepoint in self.result.timepoints
        ]
        return [*others, *lesions, self._step([], self._charts)]

    def read(self, path: Path) -> sitk.Image:
        """An image of the study as it is shown: maps on the baseline's grid, or on its box around the lungs.

        Touches no node: a thread may do it.
        """
        image = read_layer(path)
        for timepoint in self.result.timepoints:
            for layer, file in timepoint.files.items():
                if layer not in _NO_MAPS and self.folder / file == path and not volumes.on_grid(image, self.grid):
                    through = None if timepoint.baseline else self._resampling(timepoint)
                    return resample(image, self.map_grid, through, outside=maps.overlay_of(layer).neutral or 0.0)
        return image

    def _step(self, wanted: list[tuple[TimePointResult, str]], make: Callable[[], None]) -> Step:
        paths = [timepoint.layer(self.folder, layer) for timepoint, layer in wanted if layer in timepoint.files]
        return Step(tuple(paths), make)

    def _map_step(self, layer: str) -> Step:
        return self._step([(timepoint, layer) for timepoint in self.result.timepoints], lambda: self._map(layer))

    def _read(self, timepoint: TimePointResult, layer: str) -> sitk.Image:
        return self.layers.take(timepoint.layer(self.folder, layer))

    def _title(self, timepoint: TimePointResult, words: str) -> str:
        return f"{timepoint.label}: {words}"

    def _mark(self, node: Node, role: str, timepoint: TimePointResult | None = None, layer: str | None = None) -> Node:
        return mark(node, self.name, role, timepoint.label if timepoint else None, layer)

    def _begin(self) -> None:
        """The browser over the time points, and the baseline's lungs and regions."""
        timepoint = self.result.baseline
        self.browser = sequences.add_browser(self.scene, self.name, [t.label for t in self.result.timepoints])
        if timepoint.label in self.inputs and self.inputs[timepoint.label].GetImageData() is None:
            raise BadInput(f"{self.inputs[timepoint.label].GetName()} has no voxels: load the baseline again")
        if "lungs" in timepoint.files:
            image = self._read(timepoint, "lungs")
            self.lungs = to_array(image) != 0
            if self.lungs.any():
                self.map_grid = crop_to_mask(image, 0.0)
            self._mark(
                segmentations.add_lungs(self.scene, self._title(timepoint, _("lungs")), image), "lungs", timepoint
            )
        if "regions" in timepoint.files:
            atoms = self._read(timepoint, "regions")
            names, codes = self.result.regions, self.result.region_codes
            self._mark(segmentations.add_regions(self.scene, _("Regions"), atoms, names, codes), "regions")

    def _followup(self, timepoint: TimePointResult) -> None:
        """A follow-up's own scan, where it is in the scene, and its lungs, both under its transform."""
        lungs = self._read(timepoint, "lungs") if "lungs" in timepoint.files else None
        if timepoint.label in self.inputs:
            source = self.inputs[timepoint.label]
            if lungs is not None:
                volumes.check_input(source, grid_of(lungs), timepoint.label)
            volume = volumes.share_input(self.scene, self._title(timepoint, _("CT, registered")), source)
            self._register(self._mark(volume, "volume", timepoint), timepoint)
        if lungs is not None:
            node = segmentations.add_lungs(self.scene, self._title(timepoint, _("lungs, registered")), lungs)
            node.GetDisplayNode().SetVisibility(False)
            self._register(self._mark(node, "lungs", timepoint), timepoint)
        self._transform(timepoint)

    def _lesions(self, timepoint: TimePointResult) -> None:
        if "lesions" not in timepoint.files:
            return
        title = self._title(timepoint, _("lesions"))
        node = segmentations.add_lesions(self.scene, title, self._read(timepoint, "lesions"))
        self._register(self._mark(node, "lesions", timepoint), timepoint)

    def _register(self, node: Node, timepoint: TimePointResult) -> None:
        """Put a node of a follow-up under its transform, which lays it on the baseline."""
        transform = self._transform(timepoint)
        if transform is not None:
            node.SetAndObserveTransformNodeID(transform.GetID())

    def _transform(self, timepoint: TimePointResult) -> Node | None:
        """The transform node of a follow-up, made when it is first asked for; the baseline has none."""
        if timepoint.label not in self.transforms and "transform" in timepoint.files:
            title = self._title(timepoint, _("transform onto the baseline"))
            node = transforms.add_transform(self.scene, title, timepoint.layer(self.folder, "transform"))
            self.transforms[timepoint.label] = self._mark(node, "transform", timepoint)
        return self.transforms.get(timepoint.label)

    def _ct(self) -> None:
        """The baseline, and the sequence of the baseline and the follow-ups laid on it."""
        items = {}
        for timepoint in self.result.timepoints:
            layer = "ct" if timepoint.baseline else "warped"
            if layer not in timepoint.files:
                raise BadInput(f"the study holds no {layer} image of {timepoint.label}: analyse the scans again")
            image = self._read(timepoint, layer)
            array = sitk.GetArrayViewFromImage(image)
            items[timepoint.label] = volumes.loose_volume(volumes.image_data(array), self.grid, timepoint.label)
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
                blank = volumes.blank_volume(overlay.neutral or 0.0, self.map_grid, timepoint.label)
                blank.SetAttribute(sequences.EMPTY, "true")
                items[timepoint.label] = blank
                continue
            items[timepoint.label] = self._map_volume(timepoint, layer, overlay)
            if overlay.range is None:
                array = volumes.voxels(items[timepoint.label])
                highest = max(highest, float(np.percentile(array[:: max(1, len(array) // 32)], 99.5)))
        volume = self._sequence(layer, overlay.title, items)
        colours = maps.colour_node(self.scene, self.name, overlay)
        display = volume.GetDisplayNode()
        display.SetAndObserveColorNodeID(colours.GetID())
        display.SetInterpolate(False)  # between lung and "no change" outside it lies no third value
        legend = maps.add_legend(volume, self.name, overlay)
        maps.update_legend(legend, overlay, *maps.set_range(display, overlay, *(overlay.range or (0.0, highest))))

    def _map_volume(self, timepoint: TimePointResult, layer: str, overlay: maps.Overlay) -> Node:
        """A map as a volume in no scene; outside the lungs, where a change means nothing, it says no change."""
        image = self._read(timepoint, layer)
        array = sitk.GetArrayViewFromImage(image)[window(grid_of(image), self.map_grid)]
        lungs = None if self.lungs is None else self.lungs[window(self.grid, self.map_grid)]
        voxels = volumes.image_data(array, where=lungs, elsewhere=overlay.neutral or 0.0)
        return volumes.loose_volume(voxels, self.map_grid, timepoint.label)

    def _resampling(self, timepoint: TimePointResult) -> sitk.Transform:
        with transforms.HDF5:
            return read_stored_transform(timepoint.layer(self.folder, "transform"))

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
        box = window(self.grid, self.map_grid)
        found = {}
        for timepoint in self.result.timepoints:
            hu, jacobian = self._voxels(CT, timepoint)[box], self._voxels("jacobian", timepoint)
            weight = None if jacobian is None else np.maximum(jacobian, 0)
            found[timepoint.label] = plots.histogram(hu, lungs[box], weight)
        return found

    def _voxels(self, layer: str, timepoint: TimePointResult) -> np.ndarray | None:
        if layer not in self.sequences:
            return None
        node = sequences.filled_item(self.sequences[layer], self.result.timepoints.index(timepoint))
        return None if node is None else volumes.voxels(node)
