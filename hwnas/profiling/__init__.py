"""Blocks and networks to ONNX, timed in the deployment runtime; from the times a latency table."""

from hwnas.profiling.kit import Kit, take_in, write_kit
from hwnas.profiling.liveness import Footprint, footprint_of
from hwnas.profiling.matching import MismatchCall, table_matches
from hwnas.profiling.networks import Networks, build_seeded, choose_networks
from hwnas.profiling.profiler import ProfileReport, profile, table_path
from hwnas.profiling.remeasuring import Remeasurement, check_references, remeasure
from hwnas.profiling.runtimes import RUNTIMES, RuntimeState, suffix_of, try_runtimes
from hwnas.profiling.session import (
    LIMIT_S,
    Energy,
    Measurement,
    ModelFile,
    Noise,
    OnNoise,
    Progress,
    ProgressCall,
    Resident,
    measure_models,
    measure_resident,
)

__all__ = [
    "LIMIT_S",
    "RUNTIMES",
    "Energy",
    "Footprint",
    "Kit",
    "Measurement",
    "MismatchCall",
    "ModelFile",
    "Networks",
    "Noise",
    "OnNoise",
    "ProfileReport",
    "Progress",
    "ProgressCall",
    "Remeasurement",
    "Resident",
    "RuntimeState",
    "build_seeded",
    "check_references",
    "choose_networks",
    "footprint_of",
    "measure_models",
    "measure_resident",
    "profile",
    "remeasure",
    "suffix_of",
    "table_matches",
    "table_path",
    "take_in",
    "try_runtimes",
    "write_kit",
]
