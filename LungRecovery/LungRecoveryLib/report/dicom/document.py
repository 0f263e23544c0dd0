"""The PDF report as an encapsulated document."""

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from LungRecoveryLib.report.dicom.identity import NOTICE, Identity, equipment


def encapsulated(pdf: bytes, identity: Identity, number: int) -> Dataset:
    """The object that holds a PDF."""
    made = Dataset()
    identity.describe(made)
    equipment(made)
    made.SOPClassUID = EncapsulatedPDFStorage
    made.Modality, made.ConversionType = "DOC", "WSD"
    identity.series(made, number, "Report", "report")
    made.AcquisitionDateTime = ""
    made.BurnedInAnnotation = "NO"
    made.DocumentTitle = f"Lung recovery. {NOTICE}"
    made.ConceptNameCodeSequence = []
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(pdf)
    made.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    return made
