"""The latency of a device that nobody here can measure, estimated from its data sheet.

`t = sum over kernels of max(2 * MACs / (peak * efficiency), bytes / bandwidth) + kernels * launch`: every fused kernel
is bound by arithmetic or by memory, whichever is slower, and each has to be started. The estimate is for deciding which
networks to try, not for promising a time: it carries a band of +-50 % and the origin "estimated", it never becomes a
latency table, and so cannot be mistaken for a measurement. Whole networks that somebody measured on the device (five or
more) replace its scale; what comes of that is a prediction with the band of their leave-one-out errors.

Source: Williams et al. 2009 (Communications of the ACM 52), "Roofline".
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwnas.core import Architecture, CostError, Metric, Origin, SpaceError, TableError, digest_of
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


def _head(block: Block) -> tuple[Kernel, ...]:
    c_in, side, _ = block.input_shape
    width, classes = int(block.setting("width")), block.output_shape[0]
    pixels = width * side * side
    return (
        _dense(c_in, width, side, side),
        Kernel("elementwise", pixels, pixels + width, 0),
        _dense(width, classes, 1, 1),
    )


KERNELS: Mapping[str, Callable[[Block], tuple[Kernel, ...]]] = {"head": _head, "mbconv": _mbconv, "stem": _stem}
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
                f"roofline: {len(architectures)} measured networks with {len(times)} times; expected at least {FEWEST}",
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
