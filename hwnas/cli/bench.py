"""`hwnas bench`: time an ONNX file on a device, predicted beside measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.options import AsJson
from hwnas.cli.stops import importing
from hwnas.cli.terminal import Terminal, show, show_json
from hwnas.core import counted
from hwnas.device import Device

if TYPE_CHECKING:
    from hwnas.job.bench import OnFile, Timed


def bench(
    model: Annotated[Path, typer.Argument(help="An ONNX file with one image input.")],
    device: Annotated[str, typer.Option(help="A file in devices/.")] = "this-cpu",
    table: Annotated[
        Path | None, typer.Option(help="A latency table of the device: its reference networks are timed, too.")
    ] = None,
    energy: Annotated[bool, typer.Option("--energy", help="Read the GPU's energy counter too: half a minute.")] = False,
    as_json: AsJson = False,
) -> None:
    """Time an ONNX file under the protocol of the latency tables, with all that the number depends on."""
    with importing():
        from hwnas.job.bench import bench as time_file

    with Terminal() as terminal:
        terminal.stage(f"time {model.name} on {device}")
        timed = time_file(
            model,
            device=Device.load(device, Path("devices")),
            table=table,
            energy=energy,
            progress=lambda p: terminal.progress(p.done, p.total, p.stage),
        )
    if as_json:
        show_json(timed.to_json())
        return
    for line in lines_of(timed):
        show(line)


def lines_of(timed: Timed) -> list[str]:
    """The result for people."""
    c, timing = timed.conditions, timed.timing
    size = "x".join(map(str, c["input"]))
    lines = [
        f"{timed.path}: {timed.latency_ms:.4f} ms",
        f"  as measured {timed.raw_ms:.4f} ms (lower quartile of {timing.runs} runs; median "
        f"{timing.median_us / 1000:.4f}, p90 {timing.p90_us / 1000:.4f})",
    ]
    if timing.device_us is not None:
        lines.append(f"  of that on the GPU itself {timing.device_us / 1000:.4f} ms")
    joules = timed.energy.energy_mj if timed.energy else timing.energy_mj
    if joules is not None:
        spender = counted(timed.energy.runs, "run") + " of the GPU" if timed.energy else "the processor"
        lines.append(f"  energy {joules:.3g} mJ a run, all that {spender} used")
    if timed.session_factor is not None:
        lines.append(f"  the table's reference networks take {timed.session_factor:.3f} times as long as then")
    if timed.predicted:
        error = timed.predicted.value / timed.latency_ms - 1
        lines.append(f"  predicted {timed.predicted.value:.4f} ms: off by {error:+.1%}")
    elif timed.promised:
        lines.append(f"  predicted when it was exported: {then_in_words(timed.promised)}")
    if timed.measured_then:
        lines.append(f"  measured when it was exported: {then_in_words(timed.measured_then)}")
    lines.append(
        f"  {c['device']}, {c['cpu'] or 'processor unknown'}, onnxruntime {c['onnxruntime']} {c['provider']}, "
        f"{counted(c['intra_op_threads'], 'thread')}, input {size}, {counted(c['rounds'], 'round')}"
    )
    return lines + [f"  {warning}" for warning in timed.warnings]


def then_in_words(found: OnFile) -> str:
    """A latency that a file carries, where and with what, and why it does not compare with the one of now."""
    from hwnas.profiling.circumstances import in_words, scaling_in_words

    conditions = found.conditions
    words = f"{found.latency.value:.4f} ms{scaling_in_words(found.raw_ms, conditions)}"
    words += f", {in_words(conditions)}" if conditions else ""
    return words + (f" (not comparable: {'; '.join(found.not_comparable)})" if found.not_comparable else "")
