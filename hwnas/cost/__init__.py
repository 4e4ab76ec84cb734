"""What a network costs: latency tables, calibration, and cost models that know every network of a space at once."""

from hwnas.cost.calibration import TERMS, Features, Fit, band, calibrate, choose_terms, fit, score
from hwnas.cost.model import CostModel, UnitSumCost
from hwnas.cost.peak_memory import PeakMemory
from hwnas.cost.table import (
    Calibration,
    DeviceRecord,
    ExportRecord,
    Holdout,
    LatencyTable,
    NoiseRecord,
    ProtocolRecord,
    ReferenceRecord,
    RepeatRecord,
    RuntimeRecord,
    TableHeader,
    Timing,
)
from hwnas.cost.unit_sum import UnitSum, blocks_of

__all__ = [
    "TERMS",
    "Calibration",
    "CostModel",
    "DeviceRecord",
    "ExportRecord",
    "Features",
    "Fit",
    "Holdout",
    "LatencyTable",
    "NoiseRecord",
    "PeakMemory",
    "ProtocolRecord",
    "ReferenceRecord",
    "RepeatRecord",
    "RuntimeRecord",
    "TableHeader",
    "Timing",
    "UnitSum",
    "UnitSumCost",
    "band",
    "blocks_of",
    "calibrate",
    "choose_terms",
    "fit",
    "score",
]
