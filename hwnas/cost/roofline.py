"""The latency of a device that nobody here can measure, estimated from its data sheet.

`t = sum over kernels of max(2 * MACs / (peak * efficiency), bytes / bandwidth) + kernels * launch`: every fused kernel
is bound by arithmetic or by memory, whichever is slower, and each has to be started. The estimate is for deciding which
networks to try, not for promising a time: it carries a band of +-50 % and the origin "estimated", it never becomes a
latency table, and so cannot be mistaken for a measurement. Whole networks that somebody measured on the device (five or
more) replace its scale; what comes of that is a prediction with the band of their leave-one-out errors.

Source: Williams et al. 2009 (Communications of the ACM 52), "Roofline".
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.core import Architecture, CostError, Metric, Origin, SpaceError, TableError, counted, digest_of
from hwnas.core.errors import did_you_mean
from hwnas.cost.calibration import band, fit
from hwnas.cost.unit_sum import UnitSum
from hwnas.device import KernelKind, Roofline
from hwnas.space import Block, Codes, Space

BAND = 0.5
"""Of an estimate: half of the value to either side."""

FEWEST = 5
"""Measured networks that a scale can be fitted on; the band of n of them covers n / (n + 1) of new ones."""

_BYTES: Mapping[str, int] = {"float32": 4, "float16": 2, "int8": 1}
_US_PER_MS = 1000.0


@dataclass(frozen=True)
class Kernel:
    """What a runtime starts as one piece; norms and activations are part of the convolution before them.

    Attributes:
        kind: Which share of the peak it reaches.
        operations: Of one image; a multiply-add is two. Biases, activations and residual additions are not counted.
        numbers: Read and written for one image: activations.
        weights: Numbers read once, however many images there are.
    """

    kind: KernelKind
    operations: int
    numbers: int
    weights: int

    def us(self, device: Roofline, *, batch: int, bytes_each: int) -> float:
        """Its time in microseconds, without the launch."""
        arithmetic = batch * self.operations / (1e3 * device.peak_gflops * device.efficiency.of(self.kind))
        memory = bytes_each * (batch * self.numbers + self.weights) / (1e3 * device.bandwidth_gb_per_s)
        return max(arithmetic, memory)


def _dense(c_in: int, c_out: int, side_in: int, side_out: int, kernel: int = 1, *, added: int = 0) -> Kernel:
    weights = c_in * c_out * kernel * kernel
    numbers = c_in * side_in**2 + c_out * side_out**2 + added
    return Kernel("dense", 2 * weights * side_out**2, numbers, weights)


def _stem(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    return (_dense(c_in, c_out, side, out, int(block.setting("kernel"))),)


def _mbconv(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    hidden, k, squeeze = (int(block.setting(name)) for name in ("hidden", "kernel", "squeeze"))
    inside = hidden * out * out
    kernels = [
        _dense(c_in, hidden, side, side),
        Kernel("depthwise", 2 * inside * k * k, hidden * side * side + inside, hidden * k * k),
    ]
    if squeeze:
        kernels += [
            Kernel("elementwise", inside, inside + hidden, 0),  # mean over the image
            _dense(hidden, squeeze, 1, 1),
            _dense(squeeze, hidden, 1, 1),
            Kernel("elementwise", inside, 2 * inside + hidden, 0),  # scale each channel
        ]
    kernels.append(_dense(hidden, c_out, out, out, added=c_out * out * out if block.residual else 0))
    return tuple(kernels)


def _separable(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    settings = dict(block.settings)
    k, groups = int(settings["kernel"]), int(settings.get("groups", 1))
    inside, weights = c_in * out * out, c_in * c_out // groups
    added = c_out * out * out if block.residual else 0
    kernels = [
        Kernel("depthwise", 2 * inside * k * k, c_in * side * side + inside, c_in * k * k),
        Kernel("dense", 2 * weights * out * out, inside + c_out * out * out + added, weights),
    ]
    if groups > 1:  # channels change places
        kernels.insert(0, Kernel("elementwise", 0, 2 * c_in * side * side, 0))
    return tuple(kernels)


def _shuffle(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    k, stride, depthwise = (int(block.setting(name)) for name in ("kernel", "stride", "depthwise"))
    keeps = stride == 1 and c_in == c_out
    taken = c_in // 2 if keeps else c_in
    inside, left = c_out // 2, c_out - taken

    def deep(channels: int, before: int) -> Kernel:
        numbers = channels * (before * before + out * out)
        return Kernel("depthwise", 2 * channels * out * out * k * k, numbers, channels * k * k)

    if depthwise == 1:
        kernels = [_dense(taken, inside, side, side), deep(inside, side), _dense(inside, left, out, out)]
    else:
        kernels = [deep(taken, side), _dense(taken, inside, out, out)]
        for n in range(2, depthwise + 1):
            kernels += [deep(inside, out), _dense(inside, inside if n < depthwise else left, out, out)]
    if not keeps:
        kernels += [deep(c_in, side), _dense(c_in, c_in, out, out)]
    # The halves are joined, and taken apart in the next block.
    return (*kernels, Kernel("elementwise", 0, 2 * c_out * out * out, 0))


def _split_mbconv(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    settings = {name: int(value) for name, value in block.settings}
    left = c_in // 2 if settings["split"] else 0
    taken, given = c_in - left, c_out - left
    hidden, strided = taken * settings["expansion"], settings["stride"] > 1

    def deep(channels: int) -> Kernel:
        numbers = channels * (side * side + out * out)
        return Kernel("depthwise", 2 * channels * out * out * 9, numbers, channels * 9)

    added = given * out * out if settings["shortcut"] else 0
    kernels = [_dense(taken, hidden, side, side), deep(hidden), _dense(hidden, given, out, out, added=added)]
    if settings["shortcut"] and (strided or taken != given):
        kernels.append(_dense(taken, given, side, out))
    if left:
        kernels += [deep(left), _dense(left, left, out, out)] if strided else []
        # The halves are taken apart, joined, and change places.
        kernels.append(Kernel("elementwise", 0, 2 * (c_in * side * side + c_out * out * out), 0))
    return tuple(kernels)


def _mixing_head(block: Block) -> tuple[Kernel, ...]:
    c_in, side, _ = block.input_shape
    width, mix, classes = int(block.setting("width")), int(block.setting("mix")), block.output_shape[0]
    pixels = width * side * side
    return (
        _dense(c_in, width, side, side),
        Kernel("elementwise", pixels, pixels + width, 0),
        _dense(width, mix, 1, 1),
        _dense(mix, classes, 1, 1),
    )


def _pooling_mbconv(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    hidden, stride = int(block.setting("hidden")), int(block.setting("stride"))
    kernels = list(_mbconv(block))
    if hidden == c_in:  # nothing is expanded
        del kernels[0]
    if stride > 1:
        kernels.append(Kernel("elementwise", c_in * side * side, c_in * (side * side + out * out), 0))
    return (*kernels, _dense(c_in, c_out, out, out))


def _residual_conv(block: Block) -> tuple[Kernel, ...]:
    channels, side, _ = block.input_shape
    return (_dense(channels, channels, side, side, 3, added=channels * side * side),)


def _pooling_stem(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    return (
        _dense(c_in, c_out, side, side, 3),
        Kernel("elementwise", c_out * out * out * 9, c_out * (side * side + out * out), 0),
    )


def _resnet_bottleneck(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    middle, stride = int(block.setting("middle")), int(block.setting("stride"))
    kernels = [
        _dense(c_in, middle, side, side),
        _dense(middle, middle, side, out, 3),
        _dense(middle, c_out, out, out, added=c_out * out * out),
    ]
    if stride > 1:
        kernels.append(Kernel("elementwise", c_in * side * side, c_in * (side * side + out * out), 0))
    if stride > 1 or c_in != c_out:
        kernels.append(_dense(c_in, c_out, out, out))
    return tuple(kernels)


def _pool_head(block: Block) -> tuple[Kernel, ...]:
    channels, side, _ = block.input_shape
    pixels = channels * side * side
    return Kernel("elementwise", pixels, pixels + channels, 0), _dense(channels, block.output_shape[0], 1, 1)


def _head(block: Block) -> tuple[Kernel, ...]:
    c_in, side, _ = block.input_shape
    width, classes = int(block.setting("width")), block.output_shape[0]
    pixels = width * side * side
    return (
        _dense(c_in, width, side, side),
        Kernel("elementwise", pixels, pixels + width, 0),
        _dense(width, classes, 1, 1),
    )


def _hybrid(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    middle, heads, stride = (int(block.setting(name)) for name in ("middle", "heads", "stride"))
    pixels = out * out
    kernels = [_dense(c_in, middle, side, side), _grouped(middle, middle, side, out, 3, middle)]
    if block.setting("operation") == "attention":
        weights = heads * pixels * pixels  # one per head and pair of pixels
        product = Kernel("dense", 2 * pixels * pixels * middle, 2 * pixels * middle + weights, 0)
        kernels += [_dense(middle, 3 * middle, out, out), product, Kernel("elementwise", 0, 2 * weights, 0), product]
    else:
        kernels.append(_dense(middle, middle, out, out, 3))
    kernels.append(_dense(middle, c_out, out, out, added=c_out * pixels))
    if stride > 1:
        kernels.append(Kernel("elementwise", c_in * side * side, c_in * (side * side + pixels), 0))
    if stride > 1 or c_in != c_out:
        kernels.append(_dense(c_in, c_out, out, out))
    return tuple(kernels)


def _patches(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    return _grouped(c_in, c_in, side, out, int(block.setting("side")), c_in), _dense(c_in, c_out, out, out)


def _rectified(channels: int, side: int) -> Kernel:
    return Kernel("elementwise", 0, 2 * channels * side * side, 0)


def _window(channels: int, side: int, out: int, kernel: int) -> Kernel:
    """A pool."""
    pixels = channels * out * out
    return Kernel("elementwise", pixels * kernel * kernel, channels * side * side + pixels, 0)


def _grouped(c_in: int, c_out: int, side: int, out: int, kernel: int, groups: int) -> Kernel:
    whole = _dense(c_in, c_out, side, out, kernel)
    kind: KernelKind = "depthwise" if groups > GROUPED else "dense"
    return Kernel(kind, whole.operations // groups, whole.numbers, whole.weights // groups)


def _conv_norm(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    convolution = _dense(c_in, c_out, side, out, int(block.setting("kernel")))
    return (_rectified(c_in, side), convolution) if block.setting("rectify") else (convolution,)


def _factorized_reduce(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    first = c_out // 2
    halves = _dense(c_in, first, side, out), _dense(c_in, c_out - first, side, out)
    moved = _rectified(c_in, side), Kernel("elementwise", 0, 2 * c_out * out * out, 0)
    return (*moved[:1], *halves, *moved[1:]) if block.setting("rectify") else (*halves, *moved[1:])


def _depthwise_pointwise(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    kernel = int(block.setting("kernel"))
    kernels = [_rectified(c_in, side), _grouped(c_in, c_in, side, out, kernel, c_in), _dense(c_in, c_out, out, out)]
    if block.kind == "twice_separable":  # rectified within the convolution before
        kernels += [_grouped(c_out, c_out, out, out, kernel, c_out), _dense(c_out, c_out, out, out)]
    return tuple(kernels)


def _bottleneck(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    hidden, form = int(block.setting("hidden")), str(block.setting("form"))
    kernels = [_rectified(c_in, side), _dense(c_in, hidden, side, side)]
    if "_" in form and form != "3x3_dilated":  # a flat kernel and a high one: the first strides across only
        long = max(int(form[0]), int(form[2]))
        weights = hidden * hidden * long
        for pixels_in, pixels_out in ((side * side, side * out), (side * out, out * out)):
            numbers = hidden * (pixels_in + pixels_out)
            kernels.append(Kernel("dense", 2 * weights * pixels_out, numbers, weights))
    else:
        kernels.append(_dense(hidden, hidden, side, out, 3))
    return (*kernels, _dense(hidden, c_out, out, out))


def _pool(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    pooled = _window(c_in, side, out, int(block.setting("kernel")))
    return (pooled,) if c_in == c_out else (pooled, _dense(c_in, c_out, out, out))


def _halving_pool(block: Block) -> tuple[Kernel, ...]:
    return (_window(block.input_shape[0], block.input_shape[1], block.output_shape[1], 2),)


def _moved(block: Block) -> tuple[Kernel, ...]:
    """Sums, concatenations, rectifiers: what is read and written."""
    read = math.prod(block.input_shape) * (2 if block.kind == "add" else 1)
    return (Kernel("elementwise", 0, read + math.prod(block.output_shape), 0),)


def _mean_and_layers(block: Block) -> tuple[Kernel, ...]:
    """Heads: what is rectified or normed, the mean, the layers behind it."""
    channels, side, _ = block.input_shape
    settings = dict(block.settings)
    pixels = channels * side * side
    kernels = [_rectified(channels, side)] if block.kind in NORMED_HEADS or settings.get("rectify") else []
    widths = [int(settings.get("read", channels)), *([int(settings["hidden"])] if "hidden" in settings else [])]
    layers = zip(widths, [*widths[1:], block.output_shape[0]], strict=True)
    mean = Kernel("elementwise", pixels, pixels + channels, 0)
    return (*kernels, mean, *(_dense(a, b, 1, 1) for a, b in layers))


def _one_convolution(block: Block) -> tuple[Kernel, ...]:
    """A convolution with its norm and activation."""
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    kernel = int(dict(block.settings).get("kernel", ONE_CONVOLUTION[block.kind]))
    return (_dense(c_in, c_out, side, out, kernel),)


def _reduction(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    return (
        _rectified(c_in, side),
        _dense(c_in, c_out, side, out, 3),
        _window(c_in, side, out, 2),
        _dense(c_in, c_out, out, out),
        _dense(c_out, c_out, out, out, 3, added=c_out * out * out),
    )


def _dense_layer(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, _, _) = block.input_shape, block.output_shape
    name = str(block.setting("convolution"))
    groups = math.gcd(c_in, c_out) if name.startswith("depthwise") else (GROUPED if "group" in name else 1)
    kernels = [_rectified(c_in, side)] if block.setting("norm") != "identity" else []
    if name.startswith("learned"):  # channels change places
        kernels.append(_rectified(c_in, side))
    return (*kernels, _grouped(c_in, c_out, side, side, int(name[-1]), groups))


def _source_convolution(block: Block) -> tuple[Kernel, ...]:
    """A filter that need not be square, of features that may be padded first."""
    (c_in, side, _), (c_out, out, _) = block.input_shape, block.output_shape
    settings = dict(block.settings)
    weights = c_in * c_out * int(settings["height"]) * int(settings["width"])
    read = int(settings.get("side", side))
    kernel = Kernel("dense", 2 * weights * out * out, c_in * read * read + c_out * out * out, weights)
    return (kernel,) if read == side else (Kernel("elementwise", 0, c_in * (side * side + read * read), 0), kernel)


def _window_pool(block: Block) -> tuple[Kernel, ...]:
    channels, side, _ = block.input_shape
    return (_window(channels, side, block.output_shape[1], int(block.setting("kernel"))),)


def _sequence_head(block: Block) -> tuple[Kernel, ...]:
    channels, side, _ = block.input_shape
    settings = dict(block.settings)
    pixels = channels * side * side
    mean = settings["reads"] == "mean"
    hidden = [int(width) for width in str(settings.get("hidden", "")).split("-") if width]
    widths = [channels if mean else pixels, *hidden, block.output_shape[0]]
    kernels = [Kernel("elementwise", pixels, pixels + channels, 0)] if mean else []
    return (*kernels, *(_dense(a, b, 1, 1) for a, b in itertools.pairwise(widths)))


def _bank_read(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, _, _) = block.input_shape, block.output_shape
    return _rectified(c_in, side), _dense(c_in, c_out, side, side)


def _bank_convolutions(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, _, _) = block.input_shape, block.output_shape
    kernel, groups = int(block.setting("kernel")), int(block.setting("groups"))
    read = [c_out if number % 2 else c_in for number, bit in enumerate(str(block.setting("pattern"))) if bit == "1"]
    return _rectified(c_in, side), *(_grouped(c, c_out, side, side, kernel, groups) for c in read)


def _sized_cell(block: Block) -> tuple[Kernel, ...]:
    (c_in, side, _), (c_out, _, _) = block.input_shape, block.output_shape
    first, later = _dense(c_in, c_out, side, side, 3), _dense(c_out, c_out, side, side, 3, added=c_out * side * side)
    widens = (_dense(c_in, c_out, side, side),) if block.setting("widens") else ()
    return _rectified(c_in, side), first, first, *widens, later, later, later


def _summed_layer(block: Block) -> tuple[Kernel, ...]:
    channels, side, _ = block.input_shape
    kind, _, window = str(block.setting("operation")).rpartition("_")
    kernel, mix = int(window[0]), _dense(channels, channels, side, side)
    if kind.endswith("pool"):
        return mix, _window(channels, side, side, kernel)
    if kind == "conv":
        return mix, _dense(channels, channels, side, side, kernel)
    return mix, _grouped(channels, channels, side, side, kernel, channels), mix


GROUPED = 4
"""Groups up to which a convolution is as dense as one without, of dense cells."""

NORMED_HEADS = ("cell_head", "dense_head")
"""Heads that begin with a norm and a rectifier."""

ONE_CONVOLUTION: Mapping[str, int] = {
    "bank_stem": 7,
    "cell_stem": 3,
    "conv_norm_relu": 1,
    "dense_stem": 3,
    "nor_conv_1x1": 1,
    "nor_conv_3x3": 3,
}
"""Blocks that are one convolution, with its side where no setting says it."""

CELL_KERNELS: Mapping[str, Callable[[Block], tuple[Kernel, ...]]] = {
    "add": _moved,
    "avg_pool_3x3": lambda block: (_window(block.input_shape[0], block.input_shape[1], block.input_shape[1], 3),),
    "bank_convolutions": _bank_convolutions,
    "bank_read": _bank_read,
    "bottleneck": _bottleneck,
    "cell_head": _mean_and_layers,
    "concat": _moved,
    "conv_norm": _conv_norm,
    "dense_head": _mean_and_layers,
    "dense_layer": _dense_layer,
    "dilated": _depthwise_pointwise,
    "factorized_reduce": _factorized_reduce,
    "halving_pool": _halving_pool,
    "norm_relu": _moved,
    "norm": _moved,
    "pool": _pool,
    "pool_classifier": _mean_and_layers,
    "readout": _mean_and_layers,
    "reduction": _reduction,
    "relu": _moved,
    "sequence_head": _sequence_head,
    "source_conv": _source_convolution,
    "sized_cell": _sized_cell,
    "summed_layer": _summed_layer,
    "twice_separable": _depthwise_pointwise,
    "two_layer_head": _mean_and_layers,
    "window_pool": _window_pool,
    "zero": _moved,
    **dict.fromkeys(ONE_CONVOLUTION, _one_convolution),
}
"""The pieces of cells; a cell that is measured by its kernels is estimated by them, too."""


KERNELS: Mapping[str, Callable[[Block], tuple[Kernel, ...]]] = {
    "head": _head,
    "hybrid": _hybrid,
    "mbconv": _mbconv,
    "mixing_head": _mixing_head,
    "patches": _patches,
    "pool_head": _pool_head,
    "pooling_mbconv": _pooling_mbconv,
    "pooling_stem": _pooling_stem,
    "residual_conv": _residual_conv,
    "resnet_bottleneck": _resnet_bottleneck,
    "separable": _separable,
    "shuffle": _shuffle,
    "split_mbconv": _split_mbconv,
    "stem": _stem,
    **CELL_KERNELS,
}
"""Block kind to the kernels that a runtime makes of it."""


def kernels_of(block: Block) -> tuple[Kernel, ...]:
    """The kernels of a block, in order.

    Raises:
        CostError: If nobody has written down what a block of this kind is made of.

    Example:
        >>> settings = (("kernel", 3), ("stride", 2), ("activation", "relu"))
        >>> kernels_of(Block("stem", settings, (1, 28, 28), (16, 14, 14), 28224, 176))
        (Kernel(kind='dense', operations=56448, numbers=3920, weights=144),)
    """
    if block.kernels is not None:
        return tuple(kernel for part in block.kernels for kernel in kernels_of(part))
    if block.kind not in KERNELS:
        raise CostError(
            f'roofline: the kernels of block kind "{block.kind}" are unknown; {did_you_mean(block.kind, KERNELS)}',
            hint="measure such blocks on a device: hwnas profile",
        )
    return KERNELS[block.kind](block)


def block_us(block: Block, device: Roofline, *, precision: str = "float32", batch: int = 1) -> float:
    """The estimated time of one block in microseconds.

    Args:
        block: Of a known kind.
        device: Its figures.
        precision: "float32", "float16" or "int8": how many bytes a number has.
        batch: Images at once.

    Raises:
        CostError: If the kind of the block or the precision is unknown.

    Example:
        >>> settings = (("kernel", 3), ("stride", 2), ("activation", "relu"))
        >>> stem = Block("stem", settings, (1, 28, 28), (16, 14, 14), 28224, 176)
        >>> block_us(stem, Roofline(peak_gflops=100, bandwidth_gb_per_s=1000, launch_us=1))  # 1 + 56,448 / 50,000
        2.12896
    """
    if precision not in _BYTES:
        raise CostError(f'roofline: precision is "{precision}"; {did_you_mean(precision, _BYTES)}')
    kernels = kernels_of(block)
    times = [kernel.us(device, batch=batch, bytes_each=_BYTES[precision]) for kernel in kernels]
    return math.fsum(times) + len(kernels) * device.launch_us


@dataclass(frozen=True, eq=False)
class EstimatedLatency:
    """Latency in milliseconds from a roofline: a cost model whose numbers nobody has measured.

    Attributes:
        total: Milliseconds.
        name: "latency_ms", with "@device" where several devices are used.
        origin: "estimated", or "predicted" once measured networks have set the scale.
        low: What a value is multiplied by at the lower end of the band.
        high: And at the upper end.
        measured: How many networks have set the scale; 0 for none.
    """

    total: UnitSum
    name: str = "latency_ms"
    origin: Origin = "estimated"
    low: float = 1 - BAND
    high: float = 1 + BAND
    measured: int = 0
    unit: str = field(init=False, default="ms")
    digest: str = field(init=False, default="")

    def __post_init__(self) -> None:
        parts = [self.name, self.origin, self.total.space.digest, self.total.digest, self.low, self.high]
        object.__setattr__(self, "digest", digest_of(parts))

    @classmethod
    def of(
        cls, space: Space, device: Roofline, *, precision: str = "float32", batch: int = 1, device_suffix: str = ""
    ) -> EstimatedLatency:
        """The estimate for every network of a space.

        Args:
            space: With units.
            device: Its figures.
            precision: Of weights and activations.
            batch: Images at once.
            device_suffix: Where several devices are used: "pi5" names the metric `latency_ms@pi5`.

        Raises:
            CostError: If the space has no units, or one whose kernels are unknown.
        """

        def ms(block: Block) -> float:
            return block_us(block, device, precision=precision, batch=batch) / _US_PER_MS

        return cls(UnitSum.of(space, ms), "latency_ms" + (f"@{device_suffix}" if device_suffix else ""))

    def calibrated(self, architectures: Sequence[Architecture], measured_ms: ArrayLike) -> EstimatedLatency:
        """The same with the scale of some networks that were measured on the device.

        One factor is fitted, to relative errors; the band is the conformal one of leaving each network out.

        Args:
            architectures: At least five, over the range of the space.
            measured_ms: Their times.

        Raises:
            CostError: If there are fewer, or a time is not finite or not above 0.
            SpaceError: If an architecture is not one of the space.
        """
        times = np.asarray(measured_ms, dtype=np.float64)
        if len(architectures) != len(times) or len(times) < FEWEST:
            raise CostError(
                f"roofline: {counted(len(architectures), 'measured network')} with "
                f"{counted(len(times), 'time')}; expected at least {FEWEST}",
                hint="measure more, or leave them out and keep the estimate",
            )
        if not (np.isfinite(times).all() and (times > 0).all()):
            raise CostError("roofline: a measured time is not finite or not above 0")
        found = fit(self.total(self.space.encode(architectures))[:, None], times)
        factor = float(found.coefficients[0])
        total = UnitSum(
            self.space,
            self.total.constant * factor,
            tuple((labels, tensor * factor) for labels, tensor in self.total.tensors),
        )
        half = math.exp(band(found.left_out))
        return EstimatedLatency(total, self.name, "predicted", 1 / half, half, len(times))

    @property
    def space(self) -> Space:
        """The space whose networks it knows."""
        return self.total.space

    def __call__(self, architecture: Architecture) -> Metric:
        """The latency of one network, with its band.

        Raises:
            SpaceError: If the architecture is not one of the space.
        """
        value = float(self.batch(self.space.encode([architecture]))[0])
        return Metric(value, self.unit, self.origin, low=value * self.low, high=value * self.high)

    def batch(self, codes: Codes) -> NDArray[np.float64]:
        """The latencies of n networks [n] from their codes or genotypes [n, decisions].

        Raises:
            CostError: If the codes do not fit the space.
        """
        return self.total(codes)

    def expectation(self, probabilities: Mapping[str, NDArray[np.float64]]) -> float:
        """The exact mean when every decision is drawn on its own; see `UnitSum.expectation`.

        Raises:
            CostError: If a label is missing, or its probabilities are not some.
        """
        return self.total.expectation(probabilities)

    def smallest(self) -> tuple[float, Architecture]:
        """The smallest latency in the space, exactly, and a network that has it.

        Raises:
            CostError: If the decisions hang together too closely to be searched exactly.
        """
        return self.total.smallest()

    def largest(self) -> tuple[float, Architecture]:
        """The largest latency in the space, exactly, and a network that has it.

        Raises:
            CostError: If the decisions hang together too closely to be searched exactly.
        """
        return self.total.largest()


def read_measured(path: Path, space: Space) -> tuple[list[Architecture], NDArray[np.float64]]:
    """Networks that somebody measured: one JSON object a line, `{"architecture": {...}, "latency_ms": 1.25}`.

    Args:
        path: The file.
        space: Whose architectures they are.

    Returns:
        Architectures, and their latencies [n] in milliseconds.

    Raises:
        TableError: If the file cannot be read or a line is not of this form; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read: {error}; expected one JSON object per measured network") from error
    architectures, times = [], []
    for number, line in enumerate(lines, start=1):
        architecture, latency_ms = _measured_network(f"{path}: line {number}", line, space)
        architectures.append(architecture)
        times.append(latency_ms)
    return architectures, np.array(times)


def _measured_network(where: str, line: str, space: Space) -> tuple[Architecture, float]:
    expected = 'expected {"architecture": {...}, "latency_ms": 1.25}'
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise TableError(f"{where}: is not JSON ({error}); {expected}") from error
    if not isinstance(row, dict) or set(row) != {"architecture", "latency_ms"}:
        found = sorted(row) if isinstance(row, dict) else line[:40]
        raise TableError(f"{where}: holds {found!r}; {expected}")
    latency = row["latency_ms"]
    if isinstance(latency, bool) or not isinstance(latency, int | float) or not 0 < latency < math.inf:
        raise TableError(f"{where}: latency_ms is {latency!r}; expected a finite number above 0")
    try:
        architecture = space.canonical(row["architecture"])
    except (SpaceError, AttributeError) as error:
        raise TableError(f"{where}: architecture is none of space {space.name}: {error}") from error
    return architecture, float(latency)
