"""ONNX files: one file, dynamic batch, checked against torch, with all that a stranger needs to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.core.lazy import loaded_when_used

if TYPE_CHECKING:
    from hwnas.export.graph_digest import content_digest, metadata_digest
    from hwnas.export.onnx_file import Exported, add_metadata, export_onnx, sealed
    from hwnas.export.parity import BATCHES, TOLERANCE, Parity, allowed_on_noise, check_parity, logits, open_session
    from hwnas.export.reading import (
        NUMBERS,
        UNKNOWN,
        Described,
        State,
        check_metadata,
        describe,
        load_onnx,
        read_metadata,
    )

_PLACES = {
    "BATCHES": "hwnas.export.parity",
    "NUMBERS": "hwnas.export.reading",
    "TOLERANCE": "hwnas.export.parity",
    "Described": "hwnas.export.reading",
    "Exported": "hwnas.export.onnx_file",
    "Parity": "hwnas.export.parity",
    "State": "hwnas.export.reading",
    "UNKNOWN": "hwnas.export.reading",
    "add_metadata": "hwnas.export.onnx_file",
    "allowed_on_noise": "hwnas.export.parity",
    "check_metadata": "hwnas.export.reading",
    "check_parity": "hwnas.export.parity",
    "content_digest": "hwnas.export.graph_digest",
    "describe": "hwnas.export.reading",
    "export_onnx": "hwnas.export.onnx_file",
    "load_onnx": "hwnas.export.reading",
    "logits": "hwnas.export.parity",
    "metadata_digest": "hwnas.export.graph_digest",
    "open_session": "hwnas.export.parity",
    "read_metadata": "hwnas.export.reading",
    "sealed": "hwnas.export.onnx_file",
}

__all__ = [
    "BATCHES",
    "NUMBERS",
    "TOLERANCE",
    "UNKNOWN",
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
    "metadata_digest",
    "open_session",
    "read_metadata",
    "sealed",
]

__getattr__ = loaded_when_used(__name__, _PLACES)
