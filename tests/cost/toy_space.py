"""The toy space and the flat table of the open cases: every cost can be added by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

from hwnas.core import Architecture
from hwnas.cost import (
    Calibration,
    DeviceRecord,
    LatencyTable,
    ProtocolRecord,
    ReferenceRecord,
    RuntimeRecord,
    TableHeader,
    Timing,
    blocks_of,
)
from hwnas.space import Block, Condition, Decision, Space, Unit

SIZES, DEPTHS, KERNELS, EXPANDS = (32, 48), (1, 2), (3, 5), (3, 6)
CHANNELS = (8, 16, 24)


def mbconv(size: int, stage: int, kernel: int, expand: int, *, first: bool) -> Block:
    """The first block of a stage halves the image; the second one is residual; the second stage has SE."""
    c_in, c_out = CHANNELS[stage if first else stage + 1], CHANNELS[stage + 1]
    entry = size // 2 ** (stage + 1 if first else stage + 2)
    leave = size // 2 ** (stage + 2)
    middle = c_in * expand
    return Block(
        "mbconv",
        (("kernel", kernel), ("expand", expand), ("stride", 2 if first else 1)),
        (c_in, entry, entry),
        (c_out, leave, leave),
        macs=c_in * middle * entry**2 + (middle * kernel**2 + middle * c_out) * leave**2,
        parameters=c_in * middle + middle * kernel**2 + middle * c_out,
        se=stage == 1,
        residual=not first,
    )


def toy_space(*, depths: tuple[int, ...] = DEPTHS) -> Space:
    decisions = [Decision("size", SIZES)]
    stems = tuple(Block("stem", (), (3, s, s), (8, s // 2, s // 2), 54 * s * s, 216 + 16) for s in SIZES)
    units = [Unit("stem", ("size",), stems)]
    for stage in range(2):
        depth = f"s{stage}.depth"
        deep = ((Condition(depth, (2,)),),) if 2 in depths else ()
        decisions.append(Decision(depth, depths))
        for place in range(2 if 2 in depths else 1):
            kernel, expand = f"s{stage}.b{place}.kernel", f"s{stage}.b{place}.expand"
            when = deep if place else ()
            decisions += [Decision(kernel, KERNELS, when), Decision(expand, EXPANDS, when)]
            choices = product(SIZES, depths, KERNELS, EXPANDS) if place else product(SIZES, (2,), KERNELS, EXPANDS)
            blocks = tuple(mbconv(size, stage, k, e, first=place == 0) if d == 2 else None for size, d, k, e in choices)
            labels = ("size", depth, kernel, expand) if place else ("size", kernel, expand)
            units.append(Unit(f"stage{stage}.block{place}", labels, blocks))
    units.append(Unit("head", (), (Block("head", (), (24,), (3,), 72, 75),)))
    return Space("toy", tuple(decisions), tuple(units))


def flat_us(block: Block) -> float:
    """Stem 1 ms, each block 0.1 ms x kernel x expand (twice that at size 48), head 0.5 ms."""
    if block.kind == "mbconv":
        large = block.input_shape[1] % 3 == 0
        return 100.0 * int(block.setting("kernel")) * int(block.setting("expand")) * (2 if large else 1)
    return {"stem": 1000.0, "head": 500.0}[block.kind]


def timing(p25_us: float) -> Timing:
    return Timing(p25_us, p25_us * 0.99, p25_us * 1.01, p25_us * 1.2, 0.02, 120, 12)


IDENTITY = Calibration(
    terms=("sum",),
    coefficients=(1.0,),
    n=20,
    loo_mape=0.01,
    band=0.05,
    box={"sum": (3300.0, 25500.0), "blocks": (4.0, 6.0), "se": (1.0, 2.0)},
)


def header(space: Space, *, calibration: Calibration | None = IDENTITY) -> TableHeader:
    return TableHeader(
        unit="us",
        space=space.name,
        space_digest=space.digest,
        entries_digest=space.entries_digest,
        created_utc=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        tool_version="0.1.0",
        device=DeviceRecord(name="this-cpu", cpu_model="Toy CPU", cores=2, affinity=(0, 1)),
        runtime=RuntimeRecord(onnxruntime="1.32.0"),
        resolutions=SIZES,
        protocol=ProtocolRecord(rounds=12, runs=10, order_seed=7),
        empty_run_us=3.6,
        reference=(ReferenceRecord(architecture=dict(SHALLOW), p25_us=3300.0),),
        calibration=calibration,
    )


def flat_table(space: Space, *, calibration: Calibration | None = IDENTITY) -> LatencyTable:
    rows = {key: timing(flat_us(block)) for key, block in blocks_of(space).items()}
    return LatencyTable(header(space, calibration=calibration), rows, source="flat-table")


SHALLOW = Architecture({
    "size": 32,
    **{f"s{s}.{name}": option for s in (0, 1) for name, option in (("depth", 1), ("b0.kernel", 3), ("b0.expand", 3))},
})
"""1.0 + 0.9 + 0.9 + 0.5 = 3.3 ms, the cheapest."""

UNEVEN = Architecture({
    **SHALLOW,
    "s0.depth": 2,
    "s0.b1.kernel": 5,
    "s0.b1.expand": 6,
    "s1.b0.kernel": 5,
})
"""1.0 + (0.9 + 3.0) + 1.5 + 0.5 = 6.9 ms."""
