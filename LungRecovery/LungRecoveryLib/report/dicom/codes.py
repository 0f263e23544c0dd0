"""The coded concepts of the objects: SNOMED CT and DICOM where they have a code, else this project's own scheme."""

from dataclasses import dataclass

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

SCHEME = "99LUNGRECOVERY"


def own(value: str, meaning: str) -> Code:
    """A code of this project's scheme; its value has at most 16 characters, as DICOM's short code values."""
    return Code(value, SCHEME, meaning)


LUNG = Code("39607008", "SCT", "Lung")
RIGHT, LEFT = Code("24028007", "SCT", "Right"), Code("7771000", "SCT", "Left")
_ANATOMY = Code("123037004", "SCT", "Body structure")
_ABNORMAL = Code("49755003", "SCT", "Morphologically abnormal structure")
_SIDED = {"right": RIGHT, "left": LEFT}


@dataclass(frozen=True)
class Segment:
    """What a label of a mask means: its name and codes, and the colour (sRGB) viewers may give it."""

    name: str
    category: Code
    kind: Code
    colour: tuple[int, int, int]
    region: Code | None = None


# By layer of a study, then by the value of its voxels.
SEGMENTS: dict[str, dict[int, Segment]] = {
    "lungs": {
        1: Segment("Right lung", _ANATOMY, Code("3341006", "SCT", "Right lung"), (86, 156, 214)),
        2: Segment("Left lung", _ANATOMY, Code("44029006", "SCT", "Left lung"), (120, 190, 150)),
    },
    "lobes": {
        1: Segment("Right upper lobe", _ANATOMY, Code("45653009", "SCT", "Upper lobe of right lung"), (86, 156, 214)),
        2: Segment("Right middle lobe", _ANATOMY, Code("72481006", "SCT", "Middle lobe of right lung"), (220, 180, 90)),
        3: Segment("Right lower lobe", _ANATOMY, Code("266005", "SCT", "Lower lobe of right lung"), (110, 130, 200)),
        4: Segment("Left upper lobe", _ANATOMY, Code("44714003", "SCT", "Upper lobe of left lung"), (120, 190, 150)),
        5: Segment("Left lower lobe", _ANATOMY, Code("41224006", "SCT", "Lower lobe of left lung"), (180, 140, 190)),
    },
    "lesions": {
        1: Segment("Ground glass", _ABNORMAL, Code("50196008", "SCT", "Ground glass opacity"), (240, 200, 60), LUNG),
        2: Segment("Consolidation", _ABNORMAL, Code("95436008", "SCT", "Consolidation"), (215, 80, 60), LUNG),
        3: Segment("Reticulation", _ABNORMAL, own("reticulation", "Reticulation"), (160, 90, 200), LUNG),
    },
}

RATIO = Code("{ratio}", "UCUM", "ratio")
PERCENT = Code("%", "UCUM", "percent")
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
MILLILITRE = Code("ml", "UCUM", "milliliter")
GRAM = Code("g", "UCUM", "gram")
DENSITY = Code("mg/ml", "UCUM", "milligram per milliliter")
MILLIMETRE = Code("mm", "UCUM", "millimeter")
DAY = Code("d", "UCUM", "day")


@dataclass(frozen=True)
class Quantity:
    """A measure: its code, its unit and, where it has one, its derivation (mean, ...)."""

    code: Code
    unit: Code
    derivation: Code | None = None


_ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
# The measures of the structured report, by group of a time point and name.
MEASURES: dict[str, dict[str, Quantity]] = {
    "density": {
        "volume_ml": Quantity(Code("118565006", "SCT", "Volume"), MILLILITRE),
        "mean_hu": Quantity(_ATTENUATION, HOUNSFIELD, codes.SCT.Mean),
        "sd_hu": Quantity(_ATTENUATION, HOUNSFIELD, codes.SCT.StandardDeviation),
        "perc15_hu": Quantity(own("perc15", "15th percentile of attenuation"), HOUNSFIELD),
        "mass_g": Quantity(Code("118538004", "SCT", "Mass"), GRAM),
        "laa950_percent": Quantity(own("laa950", "Share of lung below -950 HU"), PERCENT),
        "haa_percent": Quantity(own("haa", "Share of lung in -600 to -250 HU"), PERCENT),
        "abnormal_percent": Quantity(own("abnormal", "Share of lung of abnormally high density"), PERCENT),
    },
    "scores": {
        "jacobian": Quantity(own("jacobian-score", "Share of lung with unchanged volume"), RATIO),
        "jacobian_normalized": Quantity(
            own("jac-score-norm", "Share of lung with unchanged volume, overall change removed"), RATIO
        ),
        "tissue_recovery": Quantity(own("tissue-recovery", "Share of abnormal lung that recovered"), RATIO),
    },
    "jacobian": {"mean": Quantity(own("jacobian", "Jacobian determinant"), RATIO, codes.SCT.Mean)},
    "change": {
        "density_change_mean_mg_ml": Quantity(
            own("density-change", "Change of tissue density"), DENSITY, codes.SCT.Mean
        ),
        "hu_change_mean": Quantity(own("hu-change", "Change of attenuation"), HOUNSFIELD, codes.SCT.Mean),
    },
}
# Changes from the first usable date to the last, by measure of the trajectory.
CHANGE: dict[str, Quantity] = {
    "jacobian": Quantity(own("jac-score-change", "Change of the share of lung with unchanged volume"), RATIO),
    "tissue_recovery": Quantity(own("recovery-change", "Change of the share that recovered"), RATIO),
    "volume_ml": Quantity(own("volume-change", "Change of volume"), MILLILITRE),
    "mean_hu": Quantity(own("mean-change", "Change of mean attenuation"), HOUNSFIELD),
    "abnormal_percent": Quantity(own("abnormal-change", "Change of the share of abnormal lung"), PERCENT),
}
RECOVERY_CLASS = own("recovery-class", "Class of recovery")
CLASSES = {name: own(f"class-{name}", f"{name.capitalize()} recovery") for name in ("complete", "partial")} | {
    "persistent": own("class-persistent", "Persistent abnormality"),
}
REGISTRATION_QUALITY = own("reg-quality", "Quality of the registration")
VERDICTS = {
    "pass": own("quality-pass", "Passed"),
    "review": own("quality-review", "To be reviewed"),
    "fail": own("quality-fail", "Failed: results are unreliable"),
}


@dataclass(frozen=True)
class MapKind:
    """A map: what it measures, how 16-bit voxels hold it (value = slope x stored + intercept), and its window."""

    name: str
    quantity: Quantity
    slope: float
    intercept: float
    window: tuple[float, float]


# Jacobians up to 6.5 and changes of up to 3276 HU or mg/ml. Outside the lungs every map is 0, as in the study's files.
MAPS: dict[str, MapKind] = {
    "jacobian": MapKind("Jacobian", Quantity(own("jacobian", "Jacobian determinant"), RATIO), 1e-4, 0.0, (1.0, 1.0)),
    "jacobian_normalized": MapKind(
        "Jacobian, normalised",
        Quantity(own("jacobian-norm", "Jacobian determinant, overall change removed"), RATIO),
        1e-4,
        0.0,
        (1.0, 1.0),
    ),
    "density_change": MapKind(
        "Density change",
        Quantity(own("density-change", "Change of tissue density"), DENSITY),
        0.1,
        -3276.8,
        (0.0, 600.0),
    ),
    "hu_change": MapKind(
        "HU change", Quantity(own("hu-change", "Change of attenuation"), HOUNSFIELD), 0.1, -3276.8, (0.0, 600.0)
    ),
}


_LOBES = {
    "right_lobe_upper": Code("42400003", "SCT", "Upper lobe of right lung"),
    "right_lobe_middle": Code("72481006", "SCT", "Middle lobe of right lung"),
    "right_lobe_lower": Code("266005", "SCT", "Lower lobe of right lung"),
    "left_lobe_upper": Code("44714003", "SCT", "Upper lobe of left lung"),
    "left_lobe_lower": Code("41224006", "SCT", "Lower lobe of left lung"),
}


def finding_site(region: str) -> tuple[Code, Code | None, Code | None]:
    """The codes (structure, laterality, part) of a region of a study by its id."""
    if region in _LOBES:
        return _LOBES[region], None, None
    side = next((code for name, code in _SIDED.items() if region.split("_")[0] == name), None)
    if region == "lungs" or region in _SIDED:
        return LUNG, side, None
    return LUNG, side, own(region.replace("_", "-"), region.replace("_", " ").capitalize())
