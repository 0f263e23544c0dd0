"""The settings: preset, device, regions to show, density bands and limits, and the job's settings that come of them.

What the defaults are is known by the modules that measure; they are asked when the user opens those tables, not when
the panel opens.
"""

import json
from typing import TYPE_CHECKING, Any

import qt
from slicer.i18n import tr as _

from LungRecoveryLib.gui.devices import DeviceProbe

if TYPE_CHECKING:
    from LungRecoveryLib.gui.panel import Panel

AUTOMATIC, CPU = "auto", "cpu"
_KEY = qt.Qt.UserRole


def presets() -> dict[str, tuple[str, str]]:
    """The presets: {value: (title, tooltip)}."""
    return {
        "preview": (_("Preview"), _("The network alone: seconds, for a first look")),
        "fast": (_("Fast"), _("Half the time, about twice the landmark error")),
        "standard": (_("Standard"), _("The usual choice")),
        "accurate": (_("Accurate"), _("Twice the time; a little better where the breaths differ much")),
    }


class SettingsSection:
    """The section "Settings"; its values live in the parameter node."""

    def __init__(self, panel: "Panel"):
        self.panel, self.ui = panel, panel.ui
        self._filling = False
        self.probe = DeviceProbe(self._devices_found)
        for value, (title, tip) in presets().items():
            self.ui.presetComboBox.addItem(title, value)
            self.ui.presetComboBox.setItemData(self.ui.presetComboBox.count - 1, tip, qt.Qt.ToolTipRole)
        self.ui.presetComboBox.connect("currentIndexChanged(int)", lambda _i: self._store_choice("preset"))
        self.ui.deviceComboBox.connect("currentIndexChanged(int)", lambda _i: self._store_choice("device"))
        self.ui.resultsFolderEdit.connect("currentPathChanged(QString)", self._store_folder)
        self.ui.probeDevicesButton.connect("clicked()", self.probe.start)
        self.ui.addBandButton.connect("clicked()", self._add_band)
        self.ui.removeBandButton.connect("clicked()", self._remove_band)
        self.ui.restoreBandsButton.connect("clicked()", lambda: self._store("bands", ""))
        self.ui.restoreLimitsButton.connect("clicked()", lambda: self._store("limits", ""))
        self.ui.restoreRegionsButton.connect("clicked()", lambda: self._store("hiddenRegions", "[]"))
        self.ui.bandsTable.connect("itemChanged(QTableWidgetItem*)", self._band_edited)
        self.ui.limitsTable.connect("itemChanged(QTableWidgetItem*)", self._limit_edited)
        self.ui.regionList.connect("itemChanged(QListWidgetItem*)", self._region_ticked)
        for group in (self.ui.regionsGroup, self.ui.bandsGroup, self.ui.limitsGroup):
            group.connect("toggled(bool)", lambda opened: self._fill_tables() if opened else None)
        for table in (self.ui.bandsTable, self.ui.limitsTable):
            table.horizontalHeader().setStretchLastSection(False)
            table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        # Long titles take a second line as soon as the column is too narrow for them, and only then.
        self.ui.limitsTable.horizontalHeader().connect(
            "sectionResized(int,int,int)", lambda _column, _before, _now: self.ui.limitsTable.resizeRowsToContents()
        )
        self._show_devices([])

    def job_settings(self) -> dict[str, Any]:
        """The settings of a job file beside its time points and output."""
        values = self.panel.parameters
        settings: dict[str, Any] = {
            "preset": values.preset,
            "device": values.device,
            "spacing_mm": values.spacingMm,
            "native_maps": values.nativeMaps,
            "seed": values.seed,
            "allow_different_patients": values.allowDifferentPatients,
        }
        if values.bands:
            settings["bands"] = json.loads(values.bands)
        return settings | (json.loads(values.limits) if values.limits else {})

    def hidden_regions(self) -> set[str]:
        """The regions that the tables leave out."""
        parameters = self.panel.parameters
        return set(json.loads(parameters.hiddenRegions or "[]")) if parameters is not None else set()

    def refresh(self) -> None:
        """Show what the parameter node holds."""
        parameters = self.panel.parameters
        if parameters is None:
            return
        self._filling = True
        try:
            for key in ("preset", "device"):
                combo = getattr(self.ui, f"{key}ComboBox")
                index = combo.findData(getattr(parameters, key))
                if index < 0 and key == "device":  # chosen on another computer, or not looked for yet
                    combo.addItem(getattr(parameters, key), getattr(parameters, key))
                    index = combo.count - 1
                combo.setCurrentIndex(index)
            self.ui.resultsFolderEdit.setCurrentPath(parameters.resultsFolder)
        finally:
            self._filling = False
        if not all(g.collapsed for g in (self.ui.regionsGroup, self.ui.bandsGroup, self.ui.limitsGroup)):
            self._fill_tables()

    def _store(self, key: str, value: Any) -> None:
        if self.panel.parameters is not None and not self._filling:
            setattr(self.panel.parameters, key, value)
            if key in ("bands", "limits", "hiddenRegions"):
                qt.QTimer.singleShot(0, self._fill_tables)
            if key == "hiddenRegions":
                self.panel.regions_changed()

    def _store_choice(self, key: str) -> None:
        combo = getattr(self.ui, f"{key}ComboBox")
        if combo.currentIndex >= 0:
            self._store(key, combo.itemData(combo.currentIndex))

    def _store_folder(self, path: str) -> None:
        self._store("resultsFolder", path)

    # ------------------------------------------------------------------------------------------------------- devices

    def _devices_found(self, devices: list[dict[str, Any]], problem: str) -> None:
        self._show_devices(devices)
        if problem:
            self.panel.run.log(problem)

    def _show_devices(self, devices: list[dict[str, Any]]) -> None:
        before, self._filling = self._filling, True
        combo = self.ui.deviceComboBox
        combo.clear()
        combo.addItem(_("Automatic"), AUTOMATIC)
        combo.addItem(_("CPU"), CPU)
        for device in devices:
            title = _("{name}, {memory:.0f} GiB").format(name=device["name"], memory=device["memory_gib"])
            combo.addItem(title, device["id"])
        self._filling = before
        self.refresh()

    # -------------------------------------------------------------------------------------------------------- tables

    def _fill_tables(self) -> None:
        """Fill the tables of bands, limits and regions; what they import is imported here."""
        if self.panel.parameters is None:
            return
        self._filling = True
        try:
            self._fill_bands()
            self._fill_limits()
            self._fill_regions()
        finally:
            self._filling = False

    def _fill_bands(self) -> None:
        table, bands = self.ui.bandsTable, self._bands()
        table.setRowCount(len(bands))
        for row, band in enumerate(bands):
            for column, value in enumerate((band["name"], f"{band['low']:g}", f"{band['high']:g}")):
                table.setItem(row, column, qt.QTableWidgetItem(value))

    def _bands(self) -> list[dict[str, Any]]:
        text = self.panel.parameters.bands
        if text:
            return json.loads(text)
        from LungRecoveryLib.recovery.density import DEFAULT_BANDS

        return [{"name": band.name, "low": band.low, "high": band.high} for band in DEFAULT_BANDS]

    def _band_edited(self, item: Any) -> None:
        if self._filling:
            return
        bands = self._bands()
        key, text = ("name", "low", "high")[item.column()], item.text().strip()
        bands[item.row()][key] = text if key == "name" else _number(text)
        problem = bands_problem(bands)
        if problem:
            self.panel.show_problem(problem)
            qt.QTimer.singleShot(0, self._fill_tables)
        else:
            self._store("bands", json.dumps(bands))

    def _add_band(self) -> None:
        bands = self._bands()
        high = bands[-1]["high"] if bands else -1024.0
        names = {band["name"] for band in bands}
        name = next(n for i in range(1, 1000) if (n := _("band {number}").format(number=i)) not in names)
        self._store("bands", json.dumps([*bands, {"name": name, "low": high, "high": high + 100.0}]))

    def _remove_band(self) -> None:
        bands, row = self._bands(), self.ui.bandsTable.currentRow()
        if 0 <= row < len(bands) and len(bands) > 1:
            del bands[row]
            self._store("bands", json.dumps(bands))

    def _fill_limits(self) -> None:
        table, limits = self.ui.limitsTable, limits_table()
        changed = json.loads(self.panel.parameters.limits or "{}")
        table.setRowCount(len(limits))
        for row, (group, key, title, default) in enumerate(limits):
            value = changed.get(group, {}).get(key, default)
            named, shown = qt.QTableWidgetItem(title), qt.QTableWidgetItem(f"{value:g}")
            named.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
            named.setToolTip(title)
            shown.setToolTip(_("Default: {value:g}").format(value=default))
            font = shown.font()
            font.setBold(value != default)
            shown.setFont(font)
            table.setItem(row, 0, named)
            table.setItem(row, 1, shown)
        table.resizeRowsToContents()

    def _limit_edited(self, item: Any) -> None:
        if self._filling or item.column() != 1:
            return
        group, key, title, default = limits_table()[item.row()]
        value = _number(item.text())
        if value is None:
            self.panel.show_problem(_("“{text}” is not a number: {title}.").format(text=item.text(), title=title))
            qt.QTimer.singleShot(0, self._fill_tables)
            return
        changed = json.loads(self.panel.parameters.limits or "{}")
        values = {name: number for name, number in changed.get(group, {}).items() if name != key}
        changed[group] = values | ({key: value} if value != default else {})
        self._store("limits", json.dumps({name: table for name, table in changed.items() if table}))

    def _fill_regions(self) -> None:
        from LungRecoveryLib.anatomy.regions import ALL_REGION_NAMES, REGION_NAMES

        hidden = self.hidden_regions()
        self.ui.regionList.clear()
        for region, name in ALL_REGION_NAMES.items():
            item = qt.QListWidgetItem(_(name))
            if region not in REGION_NAMES:
                item.setToolTip(_("A lobe; in the tables where the scans show its fissures"))
            item.setData(_KEY, region)
            item.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
            item.setCheckState(qt.Qt.Unchecked if region in hidden else qt.Qt.Checked)
            self.ui.regionList.addItem(item)

    def _region_ticked(self, item: Any) -> None:
        if self._filling:
            return
        hidden, region = self.hidden_regions(), item.data(_KEY)
        hidden = hidden - {region} if item.checkState() == qt.Qt.Checked else hidden | {region}
        self._store("hiddenRegions", json.dumps(sorted(hidden)))


def bands_problem(bands: list[dict[str, Any]]) -> str:
    """What is wrong with a table of bands; empty where nothing is."""
    for band in bands:
        if not band["name"]:
            return _("Give every band a name.")
        if band["low"] is None or band["high"] is None:
            return _("The limits of the band {name} must be numbers, in HU.").format(name=band["name"])
        if not band["low"] < band["high"]:
            return _("The band {name} must begin below its end.").format(name=band["name"])
    if len({band["name"] for band in bands}) < len(bands):
        return _("Two bands have the same name: give each its own.")
    return ""


def limits_table() -> list[tuple[str, str, str, float]]:
    """The limits that can be changed: (group in the job file, key, title, default)."""
    from dataclasses import asdict

    from LungRecoveryLib.recovery import quality, score

    groups = (
        ("score_thresholds", asdict(score.Thresholds()), _score_titles()),
        ("quality_thresholds", asdict(quality.Thresholds()), _quality_titles()),
    )
    return [
        (group, key, titles.get(key, key.replace("_", " ")), default)
        for group, table, titles in groups
        for key, default in table.items()
    ]


def _score_titles() -> dict[str, str]:
    return {
        "jacobian_low": _("Unchanged volume: J from"),
        "jacobian_high": _("Unchanged volume: J to"),
        "complete": _("Complete recovery: score from"),
        "partial": _("Partial recovery: score from"),
        "minimum_abnormal_percent": _("Tissue recovery is defined from this abnormal share at baseline (%)"),
        "complete_abnormal_percent": _("Complete recovery leaves less than this abnormal share (%)"),
        "worse_percent": _("Worse: abnormal share risen by more than (points)"),
        "breath_low": _("Like breaths: mean J from"),
        "breath_high": _("Like breaths: mean J to"),
    }


def _quality_titles() -> dict[str, str]:
    return {
        "fail_folds_percent": _("Fail: folds above (% of the lung)"),
        "fail_dice": _("Fail: lung Dice below"),
        "fail_similarity_gain": _("Fail: similarity gained not above"),
        "identical_similarity": _("Alike before and after: similarity from"),
        "review_folds_percent": _("Review: folds above (% of the lung)"),
        "review_dice": _("Review: lung Dice below"),
        "review_inverse_p95_mm": _("Review: inverse error, 95th percentile, above (mm)"),
        "review_volume_ratio_low": _("Review: lung volume ratio below"),
        "review_volume_ratio_high": _("Review: lung volume ratio above"),
    }


def _number(text: str) -> float | None:
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        return None
