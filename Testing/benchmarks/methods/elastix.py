"""elastix: an affine transform and a multi-resolution B-spline that maximise normalised correlation in the lung.

Klein, Staring, Murphy, Viergever, Pluim, elastix: a toolbox for intensity-based medical image registration, IEEE TMI
29, 2010. The settings follow those its authors use for lung CT (Staring, Klein, Reiber, Niessen, Stoel, Pulmonary image
registration with elastix using a standard intensity-based algorithm, EMPIRE10 at MICCAI 2010): correlation, adaptive
stochastic gradient descent, new random samples in the lung mask at every step, a B-spline grid of 10 mm at the end.
"""

import itk
import numpy as np
import SimpleITK as sitk

from methods.common import Pair, affine_matrix, binary, windowed

MASK_MARGIN_MM = 3.0
LEVELS = 4
GRID_MM = 10.0
STEPS = 500
SAMPLES = 5000


def register(pair: Pair, initial: sitk.AffineTransform, threads: int) -> sitk.Transform:
    """Register a pair by an affine transform and then a B-spline on top of it, from the lungs' alignment."""
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)
    parameters = itk.ParameterObject.New()
    for stage in (_affine(), _bspline()):
        parameters.AddParameterMap(stage)
    elastix = itk.ElastixRegistrationMethod.New(_to_itk(windowed(pair.fixed)), _to_itk(windowed(pair.moving)))
    elastix.SetFixedMask(_to_itk(binary(pair.fixed_lungs, MASK_MARGIN_MM)))
    elastix.SetExternalInitialTransform(_affine_to_itk(initial))
    elastix.SetParameterObject(parameters)
    elastix.SetLogToConsole(False)
    elastix.SetNumberOfThreads(threads)
    elastix.Update()
    found = elastix.GetTransformParameterObject()
    affine, bspline = (found.GetParameterMap(i) for i in (1, 2))  # 0 is the initial transform
    # elastix composes: the initial transform acts on fixed points first, then the affine part, then the B-spline.
    return sitk.CompositeTransform([_read_bspline(bspline), _read_affine(affine), initial])


def _common() -> dict[str, list[str]]:
    return {
        "FixedInternalImagePixelType": ["float"],
        "MovingInternalImagePixelType": ["float"],
        "Registration": ["MultiResolutionRegistration"],
        "Metric": ["AdvancedNormalizedCorrelation"],
        "Optimizer": ["AdaptiveStochasticGradientDescent"],
        "AutomaticParameterEstimation": ["true"],
        "ImageSampler": ["RandomCoordinate"],
        "NewSamplesEveryIteration": ["true"],
        "NumberOfSpatialSamples": [str(SAMPLES)],
        "MaximumNumberOfSamplingAttempts": ["20"],
        "CheckNumberOfSamples": ["false"],
        "RandomSeed": ["121212"],
        "Interpolator": ["LinearInterpolator"],
        "ResampleInterpolator": ["FinalLinearInterpolator"],
        "Resampler": ["DefaultResampler"],
        "FixedImagePyramid": ["FixedSmoothingImagePyramid"],
        "MovingImagePyramid": ["MovingSmoothingImagePyramid"],
        "HowToCombineTransforms": ["Compose"],
        "WriteResultImage": ["false"],
    }


def _affine() -> dict[str, list[str]]:
    return _common() | {
        "Transform": ["AffineTransform"],
        "AutomaticScalesEstimation": ["true"],
        "NumberOfResolutions": ["3"],
        "MaximumNumberOfIterations": ["250"],
    }


def _bspline() -> dict[str, list[str]]:
    halvings = [str(2**k) for k in reversed(range(LEVELS))]
    return _common() | {
        "Transform": ["BSplineTransform"],
        "NumberOfResolutions": [str(LEVELS)],
        "ImagePyramidSchedule": [factor for factor in halvings for _ in range(3)],
        "GridSpacingSchedule": [factor for factor in halvings for _ in range(3)],
        "FinalGridSpacingInPhysicalUnits": [str(GRID_MM)] * 3,
        "MaximumNumberOfIterations": [str(STEPS)],
    }


def _to_itk(image: sitk.Image):
    converted = itk.image_from_array(sitk.GetArrayFromImage(image))
    converted.SetOrigin(image.GetOrigin())
    converted.SetSpacing(image.GetSpacing())
    converted.SetDirection(itk.matrix_from_array(np.array(image.GetDirection()).reshape(3, 3)))
    return converted


def _affine_to_itk(transform: sitk.AffineTransform):
    matrix = affine_matrix(transform)
    converted = itk.AffineTransform[itk.D, 3].New()
    converted.SetMatrix(itk.matrix_from_array(matrix[:3, :3].copy()))
    converted.SetTranslation(matrix[:3, 3].tolist())
    return converted


def _numbers(values) -> list[float]:
    return [float(value) for value in values]


def _read_affine(parameters) -> sitk.AffineTransform:
    transform = sitk.AffineTransform(3)
    transform.SetCenter(_numbers(parameters["CenterOfRotationPoint"]))
    transform.SetParameters(_numbers(parameters["TransformParameters"]))
    return transform


def _read_bspline(parameters) -> sitk.BSplineTransform:
    grid = sitk.Image([int(n) for n in parameters["GridSize"]], sitk.sitkVectorFloat64, 3)
    grid.SetOrigin(_numbers(parameters["GridOrigin"]))
    grid.SetSpacing(_numbers(parameters["GridSpacing"]))
    grid.SetDirection(_numbers(parameters["GridDirection"]))
    coefficients = np.array(_numbers(parameters["TransformParameters"])).reshape(3, *grid.GetSize()[::-1])
    images = [sitk.GetImageFromArray(component) for component in coefficients]
    for image in images:
        image.CopyInformation(grid)
    return sitk.BSplineTransform(images, 3)
