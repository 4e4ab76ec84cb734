"""The lines of Python that run an exported network as it was measured, on an image file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MOST_CLASSES = 20


def python_lines(path: Path, facts: Mapping[str, Any], *, threads: int, provider: str | None) -> list[str]:
    """A program from an image file to its class; it needs numpy, onnxruntime and Pillow.

    The session is set up as that of the measuring program, else the time is another: onnxruntime takes all cores unless
    it is told how many.

    Args:
        path: Of the ONNX file, as it is found from where the program is run.
        facts: The file's metadata: classes and preprocessing.
        threads: That it was measured with.
        provider: onnxruntime's, that it was measured on; None if it was another runtime.

    Example:
        >>> rule = {"size": 8, "channels": 1, "mean": [0.3], "std": [0.2]}
        >>> facts = {"preprocessing": rule, "classes": ["no", "yes"]}
        >>> lines = python_lines(Path("my run/a.onnx"), facts, threads=2, provider="CPUExecutionProvider")
        >>> print(lines[5])
        options.intra_op_num_threads = 2  # of the latency above: another number gives another time
        >>> print(lines[9])
        session = onnxruntime.InferenceSession('my run/a.onnx', options, providers=['CPUExecutionProvider'])
    """
    rule, classes = facts["preprocessing"], list(facts["classes"])
    side, mode = rule["size"], "L" if rule["channels"] == 1 else "RGB"
    where = [provider or "CPUExecutionProvider"]
    remark = "" if provider else "  # the latency is of another runtime, which gives another time"
    order = (
        f"classes = {classes!r}"
        if len(classes) <= _MOST_CLASSES
        else 'classes = json.loads(session.get_modelmeta().custom_metadata_map["hwnas.classes"])'
    )
    return [
        *(["import json"] if "json." in order else []),
        "import numpy as np",
        "import onnxruntime",
        "from PIL import Image, ImageOps",
        "",
        "options = onnxruntime.SessionOptions()",
        f"options.intra_op_num_threads = {threads}  # of the latency above: another number gives another time",
        "options.inter_op_num_threads = 1",
        'options.add_session_config_entry("session.intra_op.allow_spinning", "0")',
        'options.add_session_config_entry("session.set_denormal_as_zero", "1")',
        f"session = onnxruntime.InferenceSession({str(path)!r}, options, providers={where!r}){remark}",
        order,
        "",
        f'image = ImageOps.exif_transpose(Image.open("image.png")).convert("{mode}")  # of 8 bits per channel',
        "shorter = min(image.size)",
        f"image = image.resize([length * {side} // shorter for length in image.size], Image.Resampling.BILINEAR)",
        f"left, top = [(length - {side}) // 2 for length in image.size]",
        f"image = image.crop((left, top, left + {side}, top + {side}))",
        f"pixels = np.asarray(image, np.float32).reshape({side}, {side}, {rule['channels']}) / np.float32(255)",
        f"pixels = (pixels - np.float32({rule['mean']})) / np.float32({rule['std']})",
        'logits = session.run(None, {"image": pixels.transpose(2, 0, 1)[None]})[0][0]',
        "print(classes[logits.argmax()])",
    ]
