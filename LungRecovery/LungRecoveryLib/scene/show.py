"""A study's folder into the scene, as a whole or not at all."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.results import StudyResult, read_study
from LungRecoveryLib.scene import hierarchy, transforms, volumes
from LungRecoveryLib.scene.build import Builder, Step, map_layers
from LungRecoveryLib.scene.nodes import (
    Node,
    StudyNodes,
    batch,
    collect,
    marked,
    own_folders,
    remove_folders,
    remove_nodes,
    rename,
    study_names,
)
from LungRecoveryLib.scene.sequences import select_timepoint, update_maps

DEFAULT_NAME = "Lung recovery"
_PROVISIONAL = "{name} (being loaded)"

Result = TypeVar("Result")


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
    with batch(scene):
        return all_at_once(show_in_steps(folder, scene, inputs, name=name, dates=dates))


def show_in_steps(
    folder: Path,
    scene: Node,
    inputs: Mapping[str, Node] | None = None,
    *,
    name: str = DEFAULT_NAME,
    dates: Mapping[str, str] | None = None,
) -> Generator[float, None, StudyNodes]:
    """Show a study as `show_study` does, a part at a time, for a program that must go on answering meanwhile.

    Yields the share that is done, 0 to 1, before each part, and returns the nodes. Closed before its end, or where it
    raises, it leaves the scene as before; what an earlier call made is replaced at the very end.
    """
    folder = Path(folder)
    result = read_study(folder)
    inputs = dict(inputs or {})
    unknown = sorted(set(inputs) - {t.label for t in result.timepoints})
    if unknown:
        raise BadInput(f"the study has no time point {unknown[0]}: name the inputs by the labels of the study")
    scene.SaveStateForUndo()
    before, folders = marked(scene, name), own_folders(scene, name)
    provisional = _PROVISIONAL.format(name=name)  # so that nobody takes its nodes for those of the study of that name
    builder = Builder(folder, scene, result, inputs, provisional)
    try:
        with _layers_for(builder, steps := builder.steps()):
            for number, step in enumerate(steps):
                yield number / len(steps)
                with batch(scene):
                    step.make()
        with batch(scene):
            remove_nodes(scene, before)
            rename(scene, provisional, name)
            nodes = collect(scene, name)
            hierarchy.arrange(nodes, result, inputs, dates or {})
            remove_folders(scene, folders)
    except BaseException:
        with batch(scene):
            remove_nodes(scene, marked(scene, provisional))
        raise
    select_timepoint(nodes, nodes.labels[-1])
    return nodes


def all_at_once(steps: Generator[float, None, Result]) -> Result:
    """What a generator returns, all its steps made."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


class Opening:
    """A study brought into an empty scene step by step, for a program that must go on answering meanwhile.

    `begin` makes what the first picture needs: the CT of every time point, one map (the Jacobian, where the study has
    it) and the tables. After `read_on`, each `step` adds something else as long as there is something `unfinished`;
    `wait`, which a thread may call, returns when the images for that are read. What no slice view shows is left out:
    the follow-ups' own scans and lungs. All but `wait` belong to the thread of the scene; `close` ends the reading.

    Raises BadInput where a file is gone or damaged.
    """

    def __init__(self, folder: Path, scene: Node, result: StudyResult, name: str = DEFAULT_NAME):
        self._scene, self._name = scene, name
        self._builder = Builder(Path(folder), scene, result, {}, name)
        chosen = next(iter(map_layers(result)), None)
        self._first, self._later = self._builder.first_steps(chosen), self._builder.later_steps(chosen)
        self._reading = ExitStack()
        self._reading.enter_context(_layers_for(self._builder, self._first))

    @property
    def unfinished(self) -> int:
        """How many steps there are yet."""
        return len(self._later)

    def begin(self) -> StudyNodes:
        """Make what the first picture needs."""
        with batch(self._scene):
            for step in self._first:
                step.make()
        nodes = self._nodes()
        select_timepoint(nodes, nodes.labels[-1])
        return nodes

    def read_on(self) -> None:
        """Start to read what the later steps take."""
        self._reading.close()
        self._reading.enter_context(_layers_for(self._builder, self._later))

    def wait(self) -> None:
        """Return when the images of the next step are read."""
        self._builder.layers.wait(self._later[0].paths)

    def step(self) -> StudyNodes:
        """Make the next step; returns what the scene shows of the study by now."""
        with batch(self._scene):
            self._later.pop(0).make()
        nodes = self._nodes()
        update_maps(nodes.browser)
        return nodes

    def close(self) -> None:
        """Read no further."""
        self._reading.close()

    def _nodes(self) -> StudyNodes:
        return collect(self._scene, self._name)


def _layers_for(builder: Builder, steps: list[Step]) -> volumes.Layers:
    """The images of some steps, for a builder to take."""
    builder.layers = volumes.Layers([path for step in steps for path in step.paths], builder.read)
    return builder.layers


def find_studies(scene: Node) -> list[StudyNodes]:
    """The studies that a scene shows, also where it was loaded from a file."""
    studies = [collect(scene, name) for name in study_names(scene)]
    for timepoint in (timepoint for study in studies for timepoint in study.timepoints.values()):
        if timepoint.transform is not None:
            transforms.interpolate_linearly(timepoint.transform)
    return studies
