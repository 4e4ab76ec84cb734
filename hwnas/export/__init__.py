"""ONNX files: one file, dynamic batch, checked against torch, with all that a stranger needs to use it."""

from hwnas.export.onnx_file import Exported, add_metadata, export_onnx, read_metadata
from hwnas.export.parity import BATCHES, TOLERANCE, Parity, allowed_on_noise, check_parity, logits, open_session

__all__ = [
    "BATCHES",
    "TOLERANCE",
    "Exported",
    "Parity",
    "add_metadata",
    "allowed_on_noise",
    "check_parity",
    "export_onnx",
    "logits",
    "open_session",
    "read_metadata",
]
