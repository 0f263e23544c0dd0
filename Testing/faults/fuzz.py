"""Damage image files in many ways and read each: ``python Testing/faults/fuzz.py --count 1000 --seed 0``.

Every file must be read or refused with one sentence (BadInput), within a time and a memory limit. Prints a JSON object:
how many of each, and what went wrong otherwise, with the damage that did it. A crash shows as a missing object.
"""

import argparse
import gzip
import json
import resource
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.images import read_mask, read_scan

SECONDS = 60
MEMORY = 3 << 30  # bytes beyond what the process holds at the start
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".dcm")


def sound_files(folder: Path) -> dict[str, bytes]:
    """A small, valid scan in every format, by its ending."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    values = np.random.default_rng(0).integers(-1000, 200, (8, 10, 12)).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((2.0, 2.0, 3.0))
    found = {}
    for ending in ENDINGS[:-1]:
        sitk.WriteImage(image, str(folder / f"sound{ending}"), useCompression=ending != ".nrrd")
        found[ending] = (folder / f"sound{ending}").read_bytes()
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3.4"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_ = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    slice_.SOPClassUID, slice_.SOPInstanceUID, slice_.SeriesInstanceUID = CTImageStorage, "1.2.3.4", "1.2.3"
    slice_.Modality, slice_.PatientID, slice_.StudyInstanceUID = "CT", "P", "1.2"
    slice_.ImagePositionPatient, slice_.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    slice_.PixelSpacing, slice_.SliceThickness = [2, 2], 3
    slice_.Rows, slice_.Columns, slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 10, 12, 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
    slice_.RescaleSlope, slice_.RescaleIntercept = 1, 0
    slice_.PixelData = values[0].tobytes()
    slice_.save_as(folder / "sound.dcm", enforce_file_format=True)
    found[".dcm"] = (folder / "sound.dcm").read_bytes()
    return found


def truncate(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: int(rng.integers(0, len(data)))]


def flip(data: bytearray, rng: np.random.Generator) -> bytearray:
    for at in rng.integers(0, len(data), int(rng.integers(1, 24))):
        data[at] ^= 1 << int(rng.integers(8))
    return data


def flip_header(data: bytearray, rng: np.random.Generator) -> bytearray:
    for at in rng.integers(0, min(len(data), 400), int(rng.integers(1, 6))):
        data[at] = int(rng.integers(256))
    return data


def extreme(data: bytearray, rng: np.random.Generator) -> bytearray:
    at = int(rng.integers(0, min(len(data), 700) - 4))
    data[at : at + 4] = struct.pack("<I", EXTREMES[int(rng.integers(len(EXTREMES)))])
    return data


def not_a_number(data: bytearray, rng: np.random.Generator) -> bytearray:
    at = int(rng.integers(0, min(len(data), 348) - 4)) // 4 * 4
    data[at : at + 4] = struct.pack("<f", float(rng.choice([np.nan, np.inf, -np.inf, 1e38, -1e-38])))
    return data


def insert(data: bytearray, rng: np.random.Generator) -> bytearray:
    at = int(rng.integers(0, len(data)))
    return data[:at] + bytes(rng.integers(0, 256, int(rng.integers(1, 64)), dtype=np.uint8)) + data[at:]


def digits(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Change digits of a text header (NRRD, MetaImage, DICOM's decimal strings) to others, or to many."""
    places = [i for i, byte in enumerate(data[:900]) if 48 <= byte < 58]
    if not places:
        return flip(data, rng)
    at = int(rng.choice(places))
    wide = bytes(rng.integers(48, 58, int(rng.integers(1, 12)), dtype=np.uint8))
    return data[:at] + (wide if rng.integers(2) else b"-") + data[at + 1 :]


DAMAGES: tuple[Callable[[bytearray, np.random.Generator], bytearray], ...] = (
    truncate, flip, flip_header, extreme, not_a_number, insert, digits,
)  # fmt: skip


def damaged(sound: bytes, ending: str, rng: np.random.Generator) -> tuple[str, bytes]:
    """A damaged copy of a file and the name of the damage; half of the compressed ones are damaged within."""
    damage = DAMAGES[int(rng.integers(len(DAMAGES)))]
    if ending == ".nii.gz" and rng.integers(2):
        return f"{damage.__name__} within", gzip.compress(bytes(damage(bytearray(gzip.decompress(sound)), rng)), 1)
    return damage.__name__, bytes(damage(bytearray(sound), rng))


def limit_memory() -> None:
    """Let this process take `MEMORY` more than it has."""
    held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, resource.RLIM_INFINITY))


def main() -> None:
    """Read `count` damaged files and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes: Counter[str] = Counter()
    defects: list[str] = []
    slowest = 0.0
    reference = sitk.Image((12, 10, 8), sitk.sitkInt16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sound = sound_files(folder)
        limit_memory()
        for number in range(options.count):
            rng = np.random.default_rng([options.seed, number])
            ending = ENDINGS[number % len(ENDINGS)]
            damage, data = damaged(sound[ending], ending, rng)
            path = folder / f"damaged{ending}"
            path.write_bytes(data)
            print(f"{number} {ending} {damage}", file=sys.stderr, flush=True)
            start = time.perf_counter()
            signal.alarm(SECONDS)
            try:
                read_scan(path) if number % 4 else read_mask(path, reference)
                outcomes["read"] += 1
            except BadInput as error:
                outcomes["refused"] += 1
                if "\n" in str(error):
                    defects.append(f"{number} {ending} {damage}: more than a sentence: {error}")
            except Exception as error:
                defects.append(f"{number} {ending} {damage}: {type(error).__name__}: {str(error)[:200]}")
            signal.alarm(0)
            slowest = max(slowest, time.perf_counter() - start)
    print(json.dumps({**outcomes, "defects": defects, "slowest_s": round(slowest, 2)}))


if __name__ == "__main__":
    main()
