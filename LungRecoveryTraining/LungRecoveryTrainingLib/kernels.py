"""Fused CUDA kernels for training, in Triton: squared LNCC and scaling and squaring, each with its gradient.

They compute what `LungRecoveryLib.registration.losses.Lncc` (whole windows) and `flow.exponentiate` compute, on batches
(n, c, z, y, x), in float32 throughout, with fewer passes over memory and fewer tensors kept for the gradient. Import
this module through `acceleration.kernels_for`, which gives it only where Triton and a CUDA device are.

Window sums are separable: each pass adds the 2 radius + 1 shifted voxels of one axis outright, which caches make cheap,
because running sums in float32 drift by more than the variances in which lung tissue differs.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

_ROWS, _COLUMNS = 8, 64  # the tile of one program: voxels along the summed axis, and across it along memory
_VOXELS = 128  # voxels of one program of a squaring: one a thread, so that a warp's atomic sums lie side by side
_SUMS = 5  # of f, w, f f, w w, f w

on_launch: Callable[[int], None] | None = None
"""Called with the bytes of the tensors of every launch, each of which the kernel reads or writes about once."""


# ------------------------------------------------------------------------------------------------------ window sums


@triton.jit
def _tile(length, inner, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """This program's place in arrays (outer, length, inner): outer index, row and column numbers, which exist."""
    program = tl.program_id(0)
    across = tl.cdiv(inner, COLUMNS)
    along = tl.cdiv(length, ROWS)
    columns = (program % across) * COLUMNS + tl.arange(0, COLUMNS)
    rows = (program // across) % along * ROWS + tl.arange(0, ROWS)
    outer = program // (across * along)
    return outer.to(tl.int64), rows, columns, (rows < length)[:, None] & (columns < inner)[None, :]


@triton.jit
def _products_along_x(
    fixed, warped, sums, count, length, inner, RADIUS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Sums over x of f, w, f f, w w and f w: images (length, inner) -> `sums` (5, length, inner), inner is x."""
    _, rows, columns, here = _tile(length, inner, ROWS, COLUMNS)
    starts = rows.to(tl.int64)[:, None] * inner
    count = tl.cast(count, tl.int64)
    sum_f = tl.zeros((ROWS, COLUMNS), tl.float32)
    sum_w = tl.zeros((ROWS, COLUMNS), tl.float32)
    sum_ff = tl.zeros((ROWS, COLUMNS), tl.float32)
    sum_ww = tl.zeros((ROWS, COLUMNS), tl.float32)
    sum_fw = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in tl.static_range(2 * RADIUS + 1):
        near = columns + (step - RADIUS)
        exists = here & ((near >= 0) & (near < inner))[None, :]
        f = tl.load(fixed + starts + near[None, :], mask=exists, other=0.0)
        w = tl.load(warped + starts + near[None, :], mask=exists, other=0.0)
        sum_f += f
        sum_w += w
        sum_ff += f * f
        sum_ww += w * w
        sum_fw += f * w
    place = sums + starts + columns[None, :]
    tl.store(place, sum_f, mask=here)
    tl.store(place + count, sum_w, mask=here)
    tl.store(place + 2 * count, sum_ff, mask=here)
    tl.store(place + 3 * count, sum_ww, mask=here)
    tl.store(place + 4 * count, sum_fw, mask=here)


@triton.jit
def _along_x(source, sums, length, inner, RADIUS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Sums over x: arrays (length, inner), inner is x."""
    _, rows, columns, here = _tile(length, inner, ROWS, COLUMNS)
    starts = rows.to(tl.int64)[:, None] * inner
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in tl.static_range(2 * RADIUS + 1):
        near = columns + (step - RADIUS)
        exists = here & ((near >= 0) & (near < inner))[None, :]
        total += tl.load(source + starts + near[None, :], mask=exists, other=0.0)
    tl.store(sums + starts + columns[None, :], total, mask=here)


@triton.jit
def _window(
    source, rows, columns, length, inner, here, RADIUS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Sums over the rows of one array (length, inner) around this program's tile."""
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in tl.static_range(2 * RADIUS + 1):
        near = rows + (step - RADIUS)
        exists = here & ((near >= 0) & (near < length))[:, None]
        total += tl.load(source + near[:, None] * inner + columns[None, :], mask=exists, other=0.0)
    return total


@triton.jit
def _along_y(source, sums, length, inner, RADIUS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Sums over the middle axis of arrays (outer, length, inner)."""
    outer, rows, columns, here = _tile(length, inner, ROWS, COLUMNS)
    start = outer * length * inner
    total = _window(source + start, rows, columns, length, inner, here, RADIUS, ROWS, COLUMNS)
    tl.store(sums + start + rows[:, None] * inner + columns[None, :], total, mask=here)


@triton.jit
def _reach(at, length, RADIUS: tl.constexpr):
    """How many voxels of a window of `RADIUS` at `at` lie inside an axis of `length`."""
    return tl.minimum(at + RADIUS, length - 1) - tl.maximum(at - RADIUS, 0) + 1


@triton.jit
def _correlation(
    sums, mask, total, values, slopes, count, depth, height, width, epsilon,
    RADIUS: tl.constexpr, SLOPES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The last axis' sums, then squared LNCC: one sum of `values` a program, and with SLOPES a, b, c for the gradient.

    With A the window sum, d(value)/dw = f A(a) - w A(b) + A(c), as in `losses._SquaredLncc`.
    """
    inner = height * width
    count = tl.cast(count, tl.int64)
    outer, rows, columns, here = _tile(depth, inner, ROWS, COLUMNS)
    start = outer * depth * inner
    sums += start
    voxels = (
        _reach(rows, depth, RADIUS)[:, None]
        * (_reach(columns // width, height, RADIUS) * _reach(columns % width, width, RADIUS))[None, :]
    )
    n = tl.maximum(voxels, 1).to(tl.float32)  # tiles reach beyond the image
    mean_f = _window(sums, rows, columns, depth, inner, here, RADIUS, ROWS, COLUMNS) / n
    mean_w = _window(sums + count, rows, columns, depth, inner, here, RADIUS, ROWS, COLUMNS) / n
    square_f = _window(sums + 2 * count, rows, columns, depth, inner, here, RADIUS, ROWS, COLUMNS) / n
    square_w = _window(sums + 3 * count, rows, columns, depth, inner, here, RADIUS, ROWS, COLUMNS) / n
    product = _window(sums + 4 * count, rows, columns, depth, inner, here, RADIUS, ROWS, COLUMNS) / n
    variance_f = tl.maximum(square_f - mean_f * mean_f, 0.0) + epsilon
    variance_w = tl.maximum(square_w - mean_w * mean_w, 0.0) + epsilon
    covariance = product - mean_f * mean_w
    ratio = covariance / (variance_f * variance_w)
    place = start + rows[:, None] * inner + columns[None, :]
    weight = tl.load(mask + place, mask=here, other=0.0)
    tl.store(values + tl.program_id(0), tl.sum(tl.sum(covariance * ratio * weight, axis=1), axis=0))
    if SLOPES:
        a = 2.0 * weight / (tl.load(total) * n) * ratio
        b = a * covariance / variance_w
        tl.store(slopes + place, a, mask=here)
        tl.store(slopes + count + place, b, mask=here)
        tl.store(slopes + 2 * count + place, b * mean_w - a * mean_f, mask=here)


@triton.jit
def _gradient(
    sums, fixed, warped, upstream, gradient, count, length, inner,
    RADIUS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The last axis' sums of a, b, c, then upstream (f A(a) - w A(b) + A(c)) for images (n, length, inner)."""
    outer, rows, columns, here = _tile(length, inner, ROWS, COLUMNS)
    count = tl.cast(count, tl.int64)
    start = outer * length * inner
    sums += start
    sum_a = _window(sums, rows, columns, length, inner, here, RADIUS, ROWS, COLUMNS)
    sum_b = _window(sums + count, rows, columns, length, inner, here, RADIUS, ROWS, COLUMNS)
    sum_c = _window(sums + 2 * count, rows, columns, length, inner, here, RADIUS, ROWS, COLUMNS)
    place = start + rows[:, None] * inner + columns[None, :]
    f = tl.load(fixed + place, mask=here, other=0.0)
    w = tl.load(warped + place, mask=here, other=0.0)
    tl.store(gradient + place, tl.load(upstream) * (f * sum_a - w * sum_b + sum_c), mask=here)


def _launch(kernel, programs: int, tensors: tuple[torch.Tensor, ...], *numbers, **constants) -> None:
    if on_launch is not None:
        on_launch(sum(t.numel() * t.element_size() for t in tensors))
    with _current(tensors[0].device):
        kernel[(programs,)](*tensors, *numbers, **constants)


def _current(device: torch.device) -> AbstractContextManager:
    """Triton launches on the current device; on a CPU (the interpreter) there is none to choose."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _programs(outer: int, length: int, inner: int) -> int:
    return outer * triton.cdiv(length, _ROWS) * triton.cdiv(inner, _COLUMNS)


class _SquaredLncc(torch.autograd.Function):
    @staticmethod
    def forward(ctx, warped, fixed, mask, radius, epsilon):
        n, _, depth, height, width = warped.shape
        count = warped.numel()
        tile = {"RADIUS": radius, "ROWS": _ROWS, "COLUMNS": _COLUMNS}
        rows, planes = count // width, n * depth
        one, two = (warped.new_empty(_SUMS, count) for _ in range(2))
        _launch(_products_along_x, _programs(1, rows, width), (fixed, warped, one), count, rows, width, **tile)
        _launch(_along_y, _programs(_SUMS * planes, height, width), (one, two), height, width, **tile)
        del one
        total = mask.sum().clamp(min=1e-6)
        needed = ctx.needs_input_grad[0]
        programs = _programs(n, depth, height * width)
        values = warped.new_empty(programs)
        slopes = warped.new_empty(3 if needed else 0, count)
        _launch(
            _correlation, programs, (two, mask, total, values, slopes), count, depth, height, width, epsilon,
            SLOPES=needed, **tile,
        )  # fmt: skip
        ctx.save_for_backward(warped, fixed, slopes)
        ctx.radius = radius
        return (values.sum(dtype=torch.float64) / total).float()

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        warped, fixed, slopes = ctx.saved_tensors
        n, _, depth, height, width = warped.shape
        count = warped.numel()
        tile = {"RADIUS": ctx.radius, "ROWS": _ROWS, "COLUMNS": _COLUMNS}
        one, two = torch.empty_like(slopes), torch.empty_like(slopes)
        _launch(_along_x, _programs(1, 3 * count // width, width), (slopes, one), 3 * count // width, width, **tile)
        _launch(_along_y, _programs(3 * n * depth, height, width), (one, two), height, width, **tile)
        gradient, inner = torch.empty_like(warped), height * width
        tensors = (two, fixed, warped, upstream.float().contiguous(), gradient)
        _launch(_gradient, _programs(n, depth, inner), tensors, count, depth, inner, **tile)
        return gradient, None, None, None, None


class Lncc:
    """1 - mean over `mask` of the squared local correlation with a fixed image, as `losses.Lncc` with whole windows.

    `fixed` and `mask` (n, 1, z, y, x) float32 on one device. Calling it gives the loss of a warped image, with a
    gradient for that image alone. Raises TypeError for other types than float32.
    """

    def __init__(self, fixed: torch.Tensor, mask: torch.Tensor, radius: int = 2, epsilon: float = 1e-4):
        self.fixed, self.mask = _batch(fixed, "the fixed image"), _batch(mask, "the mask")
        self.radius, self.epsilon = radius, epsilon

    def __call__(self, warped: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of a warped image (n, 1, z, y, x); `mask` replaces the centres that count."""
        mask = self.mask if mask is None else _batch(mask, "the mask")
        warped = _batch(warped, "the warped image")
        if not warped.shape == self.fixed.shape == mask.shape or warped.shape[1] != 1:
            raise ValueError("the fixed image, the warped image and the mask must be (n, 1, z, y, x) of one size")
        return 1 - _SquaredLncc.apply(warped, self.fixed, mask, self.radius, self.epsilon)


def _batch(tensor: torch.Tensor, what: str) -> torch.Tensor:
    if tensor.dtype != torch.float32:
        raise TypeError(f"{what} must be float32, not {tensor.dtype}: local correlation needs its precision")
    return tensor.contiguous()


# --------------------------------------------------------------------------------------------- scaling and squaring


@triton.jit
def _between(coordinate, size):
    """The voxels below and above a coordinate held inside an axis, how far it is between them, 1 unless held."""
    # The comparison is false for NaN too, which so reads a voxel that exists.
    held = tl.minimum(tl.where(coordinate > 0.0, coordinate, 0.0), size - 1.0)
    low = tl.minimum(tl.floor(held).to(tl.int32), size - 1)
    free = (coordinate > 0.0) & (coordinate < size - 1.0)
    return low, tl.minimum(low + 1, size - 1), held - low.to(tl.float32), free.to(tl.float32)


@triton.jit
def _place(field, size_x, size_y, size_z, VOXELS: tl.constexpr):
    """This program's voxels, the pointer to their field, and where their displacements take them on each axis."""
    voxels = size_x * size_y * size_z
    at = tl.program_id(0) % tl.cdiv(voxels, VOXELS) * VOXELS + tl.arange(0, VOXELS)
    start = (tl.program_id(0) // tl.cdiv(voxels, VOXELS)).to(tl.int64) * 3 * voxels
    here = at < voxels
    x = (at % size_x).to(tl.float32) + tl.load(field + start + at, mask=here, other=0.0)
    y = (at // size_x % size_y).to(tl.float32) + tl.load(field + start + voxels + at, mask=here, other=0.0)
    z = (at // (size_x * size_y)).to(tl.float32) + tl.load(field + start + 2 * voxels + at, mask=here, other=0.0)
    return voxels, at, start, here, x, y, z


@triton.jit
def _square(field, squared, size_x, size_y, size_z, VOXELS: tl.constexpr):
    """u(p) + u(p + u(p)) of displacements (n, 3, z, y, x) in voxels, linear, the border's value beyond the border."""
    voxels, at, start, here, x, y, z = _place(field, size_x, size_y, size_z, VOXELS)
    x0, x1, fx, _ = _between(x, size_x)
    y0, y1, fy, _ = _between(y, size_y)
    z0, z1, fz, _ = _between(z, size_z)
    row00, row01 = (z0 * size_y + y0) * size_x, (z0 * size_y + y1) * size_x
    row10, row11 = (z1 * size_y + y0) * size_x, (z1 * size_y + y1) * size_x
    for component in tl.static_range(3):
        u = field + start + component * voxels
        v00 = tl.load(u + row00 + x0, mask=here) * (1 - fx) + tl.load(u + row00 + x1, mask=here) * fx
        v01 = tl.load(u + row01 + x0, mask=here) * (1 - fx) + tl.load(u + row01 + x1, mask=here) * fx
        v10 = tl.load(u + row10 + x0, mask=here) * (1 - fx) + tl.load(u + row10 + x1, mask=here) * fx
        v11 = tl.load(u + row11 + x0, mask=here) * (1 - fx) + tl.load(u + row11 + x1, mask=here) * fx
        moved = (v00 * (1 - fy) + v01 * fy) * (1 - fz) + (v10 * (1 - fy) + v11 * fy) * fz
        own = tl.load(u + at, mask=here)
        tl.store(squared + start + component * voxels + at, own + moved, mask=here)


@triton.jit
def _square_backward(field, upstream, gradient, size_x, size_y, size_z, VOXELS: tl.constexpr):
    """Adds to `gradient`, which holds `upstream`, what reaches u through the values moved and through where from."""
    voxels, at, start, here, x, y, z = _place(field, size_x, size_y, size_z, VOXELS)
    x0, x1, fx, free_x = _between(x, size_x)
    y0, y1, fy, free_y = _between(y, size_y)
    z0, z1, fz, free_z = _between(z, size_z)
    row00, row01 = (z0 * size_y + y0) * size_x, (z0 * size_y + y1) * size_x
    row10, row11 = (z1 * size_y + y0) * size_x, (z1 * size_y + y1) * size_x
    slope_x = tl.zeros((VOXELS,), tl.float32)
    slope_y = tl.zeros((VOXELS,), tl.float32)
    slope_z = tl.zeros((VOXELS,), tl.float32)
    for component in tl.static_range(3):
        plane = start + component * voxels
        g = tl.load(upstream + plane + at, mask=here, other=0.0)
        u = field + plane
        v000, v001 = tl.load(u + row00 + x0, mask=here), tl.load(u + row00 + x1, mask=here)
        v010, v011 = tl.load(u + row01 + x0, mask=here), tl.load(u + row01 + x1, mask=here)
        v100, v101 = tl.load(u + row10 + x0, mask=here), tl.load(u + row10 + x1, mask=here)
        v110, v111 = tl.load(u + row11 + x0, mask=here), tl.load(u + row11 + x1, mask=here)
        near_y, far_y = (v001 - v000) * (1 - fy) + (v011 - v010) * fy, (v101 - v100) * (1 - fy) + (v111 - v110) * fy
        slope_x += g * (near_y * (1 - fz) + far_y * fz)
        v00, v01 = v000 * (1 - fx) + v001 * fx, v010 * (1 - fx) + v011 * fx
        v10, v11 = v100 * (1 - fx) + v101 * fx, v110 * (1 - fx) + v111 * fx
        slope_y += g * ((v01 - v00) * (1 - fz) + (v11 - v10) * fz)
        slope_z += g * ((v10 * (1 - fy) + v11 * fy) - (v00 * (1 - fy) + v01 * fy))
        out = gradient + plane
        g00, g01 = g * (1 - fz) * (1 - fy), g * (1 - fz) * fy
        g10, g11 = g * fz * (1 - fy), g * fz * fy
        tl.atomic_add(out + row00 + x0, g00 * (1 - fx), mask=here, sem="relaxed")
        tl.atomic_add(out + row00 + x1, g00 * fx, mask=here, sem="relaxed")
        tl.atomic_add(out + row01 + x0, g01 * (1 - fx), mask=here, sem="relaxed")
        tl.atomic_add(out + row01 + x1, g01 * fx, mask=here, sem="relaxed")
        tl.atomic_add(out + row10 + x0, g10 * (1 - fx), mask=here, sem="relaxed")
        tl.atomic_add(out + row10 + x1, g10 * fx, mask=here, sem="relaxed")
        tl.atomic_add(out + row11 + x0, g11 * (1 - fx), mask=here, sem="relaxed")
        tl.atomic_add(out + row11 + x1, g11 * fx, mask=here, sem="relaxed")
    own = gradient + start + at
    tl.atomic_add(own, slope_x * free_x, mask=here, sem="relaxed")
    tl.atomic_add(own + voxels, slope_y * free_y, mask=here, sem="relaxed")
    tl.atomic_add(own + 2 * voxels, slope_z * free_z, mask=here, sem="relaxed")


class _Squaring(torch.autograd.Function):
    @staticmethod
    def forward(ctx, displacement):
        squared = torch.empty_like(displacement)
        _launch_on_voxels(_square, displacement, squared)
        ctx.save_for_backward(displacement)
        return squared

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        (displacement,) = ctx.saved_tensors
        upstream = upstream.contiguous()
        gradient = upstream.clone()
        _launch_on_voxels(_square_backward, displacement, upstream, gradient)
        return gradient


def _launch_on_voxels(kernel, field: torch.Tensor, *tensors: torch.Tensor) -> None:
    n, _, depth, height, width = field.shape
    programs = n * triton.cdiv(depth * height * width, _VOXELS)
    _launch(kernel, programs, (field, *tensors), width, height, depth, VOXELS=_VOXELS)


def square(displacement: torch.Tensor) -> torch.Tensor:
    """u(p) + u(p + u(p)) of a displacement field (n, 3, z, y, x) float32 in voxels, components x, y, z.

    Linear interpolation, the border's value beyond the border. On CUDA the gradient's last bits vary from run to run
    (atomic sums), as those of `grid_sample` do.
    """
    if displacement.dtype != torch.float32 or displacement.ndim != 5 or displacement.shape[1] != 3:
        raise TypeError("a displacement field must be (n, 3, z, y, x) float32")
    return _Squaring.apply(displacement.contiguous())


def exponentiate(velocity: torch.Tensor, steps: int = 7) -> torch.Tensor:
    """exp(v) - id of a stationary velocity field (n, 3, z, y, x) float32 in voxels, as `flow.exponentiate`."""
    displacement = velocity / 2**steps
    for _ in range(steps):
        displacement = square(displacement)
    return displacement
