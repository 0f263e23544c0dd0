"""Image and transform files: read with clear errors, written whole or not at all."""

import gzip
import math
import os
import re
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import files
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import grid_from_ras, to_image

MINIMUM_VOXELS = 5
MOST_VOXELS = 4_000_000_000
_BEST_DEFLATE = 1032  # how many bytes a byte of a compressed file can stand for, at most
_GZIP = 31  # zlib's name for the format of gzip
_HEADER_BYTES = 348  # of a NIfTI file
_LAST_LINE = 8192  # bytes that hold the last line of a transform as text, and more
_MOST_EXTRA = 1 << 27  # bytes after the voxels, which some programs leave
_FORMATS = {
    ".nii": "NIfTI", ".nii.gz": "NIfTI", ".hdr": "NIfTI", ".img": "NIfTI", ".nrrd": "NRRD", ".nhdr": "NRRD",
    ".mha": "MetaImage", ".mhd": "MetaImage",
}  # fmt: skip


def existing(path: str | Path) -> Path:
    """The path of something that exists and is not empty; raises BadInput otherwise."""
    if not str(path).strip():
        raise BadInput("a path is empty; give an image file or a DICOM folder")
    place = Path(path)
    if not os.path.exists(place):  # False, and no error, for names the system cannot have
        raise BadInput(f"{path}: does not exist; give an image file or a DICOM folder")
    if place.is_dir():
        if os.access(place, os.R_OK | os.X_OK) and not any(place.iterdir()):
            raise BadInput(f"{path}: is an empty folder; give the folder of a CT series")
    elif place.stat().st_size == 0:
        raise BadInput(f"{path}: is an empty file; copy or export it again")
    return place


def format_of(path: str | Path) -> str:
    """The name of an image file's format, by its ending."""
    name = Path(path).name.lower()
    endings = [e for e in _FORMATS if name.endswith(e)]
    return _FORMATS[max(endings, key=len)] if endings else Path(name).suffix.lstrip(".").upper() or "unknown"


def read_image(path: str | Path) -> sitk.Image:
    """Any image file as it is, of any dimension; raises BadInput where it is none, or cannot be read."""
    place = existing(path)
    if place.is_dir():
        raise BadInput(f"{path}: is a folder; give an image file")
    check_plausible(place, str(path))
    if place.name.lower().endswith((".nii", ".nii.gz")):
        _check_whole_nifti(place, str(path))
    try:
        return sitk.ReadImage(str(place))
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise BadInput(
                f"{path}: its axes are sheared; resample it to right angles, in 3D Slicer for instance"
            ) from error
        raise BadInput(f"{path}: cannot be read as an image; give DICOM, NIfTI, NRRD or MHA") from error


def read_layer(path: Path) -> sitk.Image:
    """An image of a study, as `write_image` left it (.nii.gz); raises BadInput where it is gone or damaged.

    Several threads may read at a time: none of ITK's readers is used, which are not made for that. They would also
    take a compressed file that was cut short or changed for whole, with zeros or nonsense in it.
    """
    import nibabel

    if not path.is_file():
        raise BadInput(f"{path} is gone: analyse the scans again")
    try:
        content = zlib.decompress(path.read_bytes(), _GZIP)  # compares checksum and length
        header = nibabel.Nifti1Header(content[:_HEADER_BYTES])
        if header.get_slope_inter() not in ((None, None), (1.0, 0.0)):
            raise ValueError("its numbers are scaled, as no layer's are")
        size = header.get_data_shape()
        voxels = np.frombuffer(content, header.get_data_dtype(), offset=int(header["vox_offset"])).reshape(size[::-1])
    except (OSError, ValueError, zlib.error, nibabel.spatialimages.HeaderDataError) as error:
        raise BadInput(f"{path} cannot be read: analyse the scans again") from error
    return to_image(voxels, grid_from_ras(header.get_best_affine(), size))


def read_stored_transform(path: Path) -> sitk.Transform:
    """A transform of a study, as `write_transform` left it; raises BadInput where it is gone or damaged."""
    if not path.is_file():
        raise BadInput(f"{path} is gone: analyse the scans again")
    try:
        return sitk.ReadTransform(str(path))
    except RuntimeError as error:
        raise BadInput(f"{path} cannot be read: analyse the scans again") from error


def check_plausible(path: Path, name: str) -> None:
    """Raise BadInput where a header claims more voxels than the file can hold, before memory is taken for them."""
    if path.name.lower().endswith((".mha", ".mhd")):
        with path.open("rb") as file:
            dimensions = re.search(rb"^NDims\s*=\s*(\S{0,20})", file.read(4096), re.M)
        if dimensions and dimensions.group(1) not in (b"2", b"3", b"4"):  # ITK does not survive large ones
            raise BadInput(f"{name}: its header is damaged; copy or export it again")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return  # reading says what is wrong
    voxels = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
    if voxels > MOST_VOXELS:
        raise BadInput(f"{name}: claims {voxels:.3g} voxels, more than any CT has; export it again")
    alone = path.name.lower().endswith((".nii", ".nii.gz", ".nrrd", ".mha"))
    if alone and voxels > _BEST_DEFLATE * path.stat().st_size:
        raise BadInput(f"{name}: claims {voxels} voxels in {path.stat().st_size} bytes; copy or export it again")


def _check_whole_nifti(path: Path, name: str) -> None:
    """Raise BadInput for a NIfTI file that was cut short: ITK reads it without an error, with arbitrary voxels."""
    import nibabel

    try:
        header = nibabel.load(path).header
    except zlib.error as error:
        raise BadInput(f"{name}: is damaged; copy or export it again") from error
    except (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError, OSError, EOFError):
        return  # no NIfTI at all: the reader says so
    voxels = math.prod(int(n) for n in header.get_data_shape())
    offset = float(header["vox_offset"])
    if not 0 <= offset < 1e9:
        raise BadInput(f"{name}: its header is damaged; copy or export it again")
    needed = int(offset) + voxels * header.get_data_dtype().itemsize
    found = 0
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as file:  # to the end, where the checksum is
                while chunk := file.read(1 << 24):
                    found += len(chunk)
                    if found > needed + _MOST_EXTRA:
                        raise BadInput(f"{name}: holds far more than its header says; export it again")
        else:
            found = path.stat().st_size
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{name}: is damaged or cut short; copy or export it again") from error
    if found < needed:
        raise BadInput(f"{name}: is cut short, {needed - found} bytes of voxels are missing; copy or export it again")


def single_volume(image: sitk.Image, name: str) -> sitk.Image:
    """The single 3D volume of scalars in an image; raises BadInput where it holds none or several."""
    size = image.GetSize()
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise BadInput(
            f"{name}: has {image.GetNumberOfComponentsPerPixel()} numbers per voxel (a colour picture or a vector "
            "image); give a CT in Hounsfield units"
        )
    if len(size) > 3:
        volumes = int(np.prod(size[3:]))
        if volumes != 1:
            raise BadInput(f"{name}: is a 4D image with {volumes} volumes; give one volume")
        image = sitk.Extract(image, [*size[:3], *[0] * (len(size) - 3)], [0] * len(size))
        size = image.GetSize()
    if len(size) < 3 or min(size) == 1:
        raise BadInput(f"{name}: is a 2D image; give a volume, or the folder that holds all slices")
    if min(size) < MINIMUM_VOXELS:
        raise BadInput(f"{name}: has {min(size)} slices only; give the whole scan")
    spacing = image.GetSpacing()
    if not np.isfinite([*spacing, *image.GetOrigin(), *image.GetDirection()]).all():
        raise BadInput(f"{name}: its position in space is not a number; export it again")
    if min(spacing) < 0.05 or max(spacing) > 20:
        shown = " x ".join(f"{s:g}" for s in spacing)
        raise BadInput(f"{name}: its voxels of {shown} mm cannot be those of a CT; correct the voxel size")
    return image


def write_image(image: sitk.Image, path: str | Path) -> None:
    """Write an image, compressed, whole or not at all; raises BadInput where that is impossible."""
    if Path(path).suffix.lower() in (".mhd", ".nhdr", ".hdr", ".img"):
        raise BadInput(f"{path}: would need two files; give an ending of one file (.nii.gz, .nrrd, .mha)")
    with files.atomic_file(path) as unfinished:
        try:
            sitk.WriteImage(image, str(unfinished), useCompression=True)
        except RuntimeError as error:
            raise BadInput(
                f"{path}: cannot be written; check its ending (.nii.gz, .nrrd, .mha) and the disk"
            ) from error
        if unfinished.name.endswith((".nii", ".nii.gz")):  # which ITK cuts short without an error on a full disk
            try:
                _check_whole_nifti(unfinished, str(path))
            except BadInput as error:
                raise BadInput(f"{path}: could not be written whole; make room on the disk") from error


def write_transform(transform: sitk.Transform, path: str | Path) -> None:
    """Write a transform (.h5, .tfm), whole or not at all; raises BadInput where that is impossible.

    Nested composites are flattened, since ITK's files hold a flat list.
    """
    if isinstance(transform, sitk.CompositeTransform):
        transform = sitk.CompositeTransform(transform)
        transform.FlattenTransform()
    with files.atomic_file(path) as unfinished:
        try:
            sitk.WriteTransform(transform, str(unfinished))
        except RuntimeError as error:
            raise BadInput(f"{path}: cannot be written; check its ending (.h5) and the disk") from error
        if not unfinished.name.endswith(".h5") and not _ends_as_text(unfinished):
            raise BadInput(f"{path}: could not be written whole; make room on the disk")


def _ends_as_text(path: Path) -> bool:
    """Whether a transform as text ends with its last line, which ITK cuts short without an error on a full disk."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, _LAST_LINE), os.SEEK_END)
        lines = file.read().split(b"\n")
    return len(lines) > 1 and lines[-1] == b"" and lines[-2].startswith(b"FixedParameters:")
