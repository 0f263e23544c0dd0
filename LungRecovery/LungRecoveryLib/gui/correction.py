"""Corrected lungs and lesions and the reader's verdict: measured again by the worker, without registering again."""

from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.gui import inputs
from LungRecoveryLib.gui.inputs import InputFile, Request
from LungRecoveryLib.gui.quality import verdicts

if TYPE_CHECKING:
    from LungRecoveryLib.gui.panel import Panel
    from LungRecoveryLib.gui.shown import ShownStudy

_ROLE = "correction"
_PARTS = ("lungs", "lesions")
_SCHEMA = "lungrecovery-correction-1"


def reader_verdicts() -> dict[str, str]:
    """What the reader can say: {value in study.json: title}."""
    return {
        "accepted": _("Accept the verdict"),
        "usable": _("Use this registration all the same"),
        "not usable": _("Do not use this registration"),
    }


class CorrectionSection:
    """The section "Correction"."""

    def __init__(self, panel: "Panel"):
        self.panel, self.ui = panel, panel.ui
        self._filling = False
        self._recorded = ""
        for value, title in reader_verdicts().items():
            self.ui.readerVerdictComboBox.addItem(title, value)
        self.ui.editLungsButton.connect("clicked()", lambda: self.panel.attempt(lambda: self._edit("lungs")))
        self.ui.editLesionsButton.connect("clicked()", lambda: self.panel.attempt(lambda: self._edit("lesions")))
        self.ui.correctTimePointComboBox.connect("currentIndexChanged(int)", lambda _i: self.update_buttons())
        self.ui.recomputeButton.connect("clicked()", lambda: self.panel.attempt(self._recompute))
        self.ui.readerButton.connect("clicked()", lambda: self.panel.attempt(self._record))
        self.ui.readerTimePointComboBox.connect("currentIndexChanged(int)", lambda _i: self._show_reader())

    def refresh(self) -> None:
        """Show the time points of the study and what the reader has said."""
        shown = self.panel.shown
        labels = shown.nodes.labels if shown is not None else []
        self._filling = True
        for combo, choices in (
            (self.ui.correctTimePointComboBox, labels),
            (self.ui.readerTimePointComboBox, labels[1:]),
        ):
            combo.clear()
            combo.addItems(choices)
        self._filling = False
        if shown is not None:
            _choose(self.panel.results.label, self.ui.correctTimePointComboBox, self.ui.readerTimePointComboBox)
        self.update_buttons()
        self._show_reader()

    def follow(self, label: str) -> None:
        """Choose the time point that the results show: what is judged is what is seen.

        A verdict whose comment is being written stays with its follow-up while the reader looks at another one.
        """
        _choose(label, self.ui.correctTimePointComboBox)
        if not self._writing:
            _choose(label, self.ui.readerTimePointComboBox)

    @property
    def _writing(self) -> bool:
        """Whether the reader has written what is not recorded yet."""
        return self.ui.readerCommentEdit.text.strip() != self._recorded

    def update_buttons(self) -> None:
        """Enable editing what the study holds, and measuring again once there is something that was edited."""
        shown, label = self.panel.shown, self.ui.correctTimePointComboBox.currentText
        held = shown.nodes.timepoints.get(label) if shown is not None else None
        for part, button in zip(_PARTS, (self.ui.editLungsButton, self.ui.editLesionsButton), strict=True):
            button.setEnabled(held is not None and getattr(held, part) is not None)
        self.ui.recomputeButton.setEnabled(shown is not None and bool(edited(shown)))
        words = _edited_words(shown) if shown is not None else ""
        self.ui.correctionLabel.setText(words)
        self.ui.correctionLabel.setVisible(bool(words))

    def _show_reader(self) -> None:
        if self._filling:
            return
        shown, label = self.panel.shown, self.ui.readerTimePointComboBox.currentText
        if shown is None or not label:
            self.ui.readerLabel.setText("")
            return
        quality = shown.timepoint(label)["quality"]
        reader = quality.get("reader") or {}
        combo = self.ui.readerVerdictComboBox
        combo.setCurrentIndex(max(combo.findData(reader.get("verdict", "accepted")), 0))
        self._recorded = reader.get("comment", "").strip()
        self.ui.readerCommentEdit.setText(self._recorded)
        said = _("Recorded.") if reader else _("The quality check says: {verdict}.")
        self.ui.readerLabel.setText(said.format(verdict=verdicts()[quality["verdict"]]))

    def _edit(self, part: str) -> None:
        """Open a copy of the lungs or the lesions in Segment Editor, where the scan itself lies."""
        shown, label = self.panel.shown, self.ui.correctTimePointComboBox.currentText
        volume = _scan(shown, label)
        node = edited(shown).get((label, part)) or _copy_of(shown, label, part)
        slicer.util.setSliceViewerLayers(background=volume, foreground=None, label=None)
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(node)
        editor.setSourceVolumeNode(volume)
        self.update_buttons()

    def _recompute(self) -> None:
        self.panel.run.start(masks_request(self.panel.shown))

    def _record(self) -> None:
        combo = self.ui.readerVerdictComboBox
        label, verdict = self.ui.readerTimePointComboBox.currentText, combo.itemData(combo.currentIndex)
        comment = self.ui.readerCommentEdit.text.strip()
        if verdict != "accepted" and not comment:
            raise BadInput(_("Write a comment: the study records why the verdict was replaced."))
        self.panel.run.start(verdict_request(self.panel.shown, label, verdict, comment))


def edited(shown: "ShownStudy") -> dict[tuple[str, str], Any]:
    """The copies that were opened for editing, by label and part (lungs or lesions)."""
    from LungRecoveryLib.scene.nodes import LABEL, LAYER, ROLE

    copies = [node for node in shown.nodes.others if node.GetAttribute(ROLE) == _ROLE]
    return {(node.GetAttribute(LABEL), node.GetAttribute(LAYER)): node for node in copies}


def _choose(label: str, *combos: Any) -> None:
    """Choose a time point wherever it is among the choices."""
    for combo in combos:
        if combo.findText(label) >= 0:
            combo.setCurrentIndex(combo.findText(label))


def _edited_words(shown: "ShownStudy") -> str:
    names = {"lungs": _("lungs of {label}"), "lesions": _("lesions of {label}")}
    found = [names[part].format(label=label) for label, part in edited(shown)]
    return _("To be measured again: {parts}.").format(parts=", ".join(found)) if found else ""


def _scan(shown: "ShownStudy", label: str) -> Any:
    volume = shown.inputs[label]
    if volume is None:
        text = _("The scan of {label} is no longer in the scene: load it and press Apply.")
        raise BadInput(text.format(label=label))
    return volume


def _copy_of(shown: "ShownStudy", label: str, part: str) -> Any:
    """A copy of a time point's lungs or lesions that lies where its scan lies: not under the study's transform."""
    from LungRecoveryLib.scene.nodes import add_node, mark

    source = getattr(shown.nodes.timepoints[label], part)
    names = {"lungs": _("{label}: lungs to correct"), "lesions": _("{label}: lesions to correct")}
    copy = add_node(shown.nodes.scene, "vtkMRMLSegmentationNode", names[part].format(label=label))
    copy.CreateDefaultDisplayNodes()
    copy.GetSegmentation().DeepCopy(source.GetSegmentation())
    mark(copy, shown.name, _ROLE, label, part)
    shown.nodes.others.append(copy)
    return copy


def masks_request(shown: "ShownStudy") -> Request:
    """The request to measure a study again with what was edited. Raises BadInput where nothing was."""
    copies = edited(shown)
    files: list[InputFile] = []
    items = []
    for index, label in enumerate(dict.fromkeys(label for label, _part in copies)):
        item = {"label": label, "path": f"scan-{index}.nrrd"}
        files.append(inputs.volume_file(item["path"], _scan(shown, label)))
        for part, write in (("lungs", inputs.mask_file), ("lesions", inputs.lesions_file)):
            if (label, part) in copies:
                item[part] = f"{part}-{index}.nrrd"
                files.append(write(item[part], copies[label, part]))
        items.append(item)
    if not items:
        raise BadInput(_("Edit the lungs or the lesions of a time point first."))
    return _request(shown, tuple(files), scans=items)


def verdict_request(shown: "ShownStudy", label: str, verdict: str, comment: str) -> Request:
    """The request to record the reader's verdict on a follow-up."""
    return _request(shown, (), verdicts=[{"label": label, "verdict": verdict, "comment": comment}])


def _request(shown: "ShownStudy", files: tuple[InputFile, ...], **content: Any) -> Request:
    from LungRecoveryLib.gui.study_run import is_temporary

    folder = shown.folder
    job = {"schema": _SCHEMA, "study": str(folder), **content}
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    keep_in = None if is_temporary(folder) else folder.parent
    return Request(job, files, shown.inputs, shown.dates, size, keep_in)
