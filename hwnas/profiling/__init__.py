"""Blocks and networks to ONNX, timed in the deployment runtime; from the times a latency table."""

from hwnas.profiling.kit import Kit, take_in, write_kit
from hwnas.profiling.matching import table_matches
from hwnas.profiling.networks import Networks, build_seeded, choose_networks
from hwnas.profiling.profiler import ProfileReport, profile, table_path
from hwnas.profiling.remeasuring import Remeasurement, check_references, remeasure
from hwnas.profiling.session import Measurement, ModelFile, Noise, OnNoise, Progress, ProgressCall, measure_models

__all__ = [
    "Kit",
    "Measurement",
    "ModelFile",
    "Networks",
    "Noise",
    "OnNoise",
    "ProfileReport",
    "Progress",
    "ProgressCall",
    "Remeasurement",
    "build_seeded",
    "check_references",
    "choose_networks",
    "measure_models",
    "profile",
    "remeasure",
    "table_matches",
    "table_path",
    "take_in",
    "write_kit",
]
