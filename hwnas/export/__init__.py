"""ONNX files: one file, dynamic batch, checked against torch, with all that a stranger needs to use it."""

from hwnas.export.content_digest import content_digest
from hwnas.export.onnx_file import Exported, add_metadata, export_onnx
from hwnas.export.parity import BATCHES, TOLERANCE, Parity, allowed_on_noise, check_parity, logits, open_session
from hwnas.export.reading import NUMBERS, Described, State, check_metadata, describe, load_onnx, read_metadata

__all__ = [
    "BATCHES",
    "NUMBERS",
    "TOLERANCE",
    "Described",
    "Exported",
    "Parity",
    "State",
    "add_metadata",
    "allowed_on_noise",
    "check_metadata",
    "check_parity",
    "content_digest",
    "describe",
    "export_onnx",
    "load_onnx",
    "logits",
    "open_session",
    "read_metadata",
]
