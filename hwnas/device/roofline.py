"""What is known from data sheets of a device that nobody here can measure: peak rate, bandwidth, launch cost."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

KernelKind = Literal["dense", "depthwise", "elementwise"]
"""Dense: every input channel meets every output channel. Depthwise: each channel on its own. Elementwise: the rest."""


class Efficiency(BaseModel):
    """The share of the peak rate that a runtime reaches, by kind of kernel.

    The defaults come from a device that was measured, an AMD EPYC with AVX-512: fitted to the 131 blocks of its latency
    table (peak taken as 64 operations a cycle at 4 GHz) they are 0.4 for depthwise and 0.05 for elementwise kernels,
    with a typical error of 20 %; dense kernels of those small blocks wait for memory, so that any share from a third to
    two thirds fits as well, and 0.5 stands for that. On another kind of processor they are a guess.

    Attributes:
        dense: Convolutions and linear layers.
        depthwise: Depthwise convolutions.
        elementwise: Pooling and scaling, an operation for each number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    dense: float = Field(default=0.5, gt=0, le=1)
    depthwise: float = Field(default=0.4, gt=0, le=1)
    elementwise: float = Field(default=0.05, gt=0, le=1)

    def of(self, kind: KernelKind) -> float:
        """The share of one kind.

        Example:
            >>> Efficiency(dense=0.4).of("dense")
            0.4
        """
        match kind:
            case "dense":
                return self.dense
            case "depthwise":
                return self.depthwise
            case "elementwise":
                return self.elementwise


class Roofline(BaseModel):
    """The `[roofline]` table of a device file, for all threads of the device together.

    Attributes:
        peak_gflops: Arithmetic peak in 10^9 operations a second at the device's precision; a multiply-add is two.
        bandwidth_gb_per_s: Peak of the memory bus, 10^9 bytes a second.
        launch_us: What starting one kernel costs, or calling one operator.
        efficiency: Shares of the peak that are reached.

    Example:
        >>> Roofline(peak_gflops=100.0, bandwidth_gb_per_s=10.0, launch_us=1.0).efficiency.dense
        0.5
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    peak_gflops: float = Field(gt=0, allow_inf_nan=False)
    bandwidth_gb_per_s: float = Field(gt=0, allow_inf_nan=False)
    launch_us: float = Field(ge=0, allow_inf_nan=False)
    efficiency: Efficiency = Efficiency()
