"""Block tables that others have published, read into one form: Once-for-All, ProxylessNAS, MSuNAS, nn-Meter's phones.

Such a table says how long a block took on some device, and little else: runtime, threads and spread are mostly unknown.
So it never becomes a `LatencyTable`, which a search would trust. It is for sums of blocks of networks that were
published with it, for comparing devices, and for choosing which networks to measure.

Files: Parquet, CSV with a header line, JSON (`{key: {"mean": 1.2, "var": 0.1, "count": 50}}`), and the JSON lines that
`ForeignTable.save` writes. The unit comes from the name of the column (`latency_ms`) or, where no name has it, from the
caller: it is never guessed.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from hwnas.core import TableError, counted, write_atomically
from hwnas.core.errors import did_you_mean

Unit = Literal["us", "ms", "s"]
BlockKind = Literal["conv", "mbconv", "pool", "linear"]
Raw = Mapping[str, Any]

SCHEMA = "hwnas foreign blocks 1"

_US: Mapping[str, float] = {"us": 1.0, "ms": 1e3, "s": 1e6}
_KEYS = ("block_key", "key")
_TIMES = ("latency", "mean")
_SHOWN = 5


@dataclass(frozen=True)
class ForeignBlock:
    """What a block of a published table is. None: the table does not say, and in a question: any.

    Attributes:
        kind: "conv" (with norm and activation), "mbconv" (inverted bottleneck), "pool" (over the image), "linear".
        c_in: Channels in.
        side_in: Of the square image in; 1 for a linear layer.
        c_out: Channels out.
        side_out: Of the square image out.
        hidden: Channels inside an mbconv, whether the table gives them or their ratio to c_in.
        kernel: Side of the (depthwise) kernel.
        stride: Of the (depthwise) convolution.
        se: Whether it squeezes and excites.
        activation: "relu" or "hswish".
        residual: Whether the input is added.
        resolution_px: Side of the network's images, where the table keeps resolutions apart.
    """

    kind: BlockKind | None = None
    c_in: int | None = None
    side_in: int | None = None
    c_out: int | None = None
    side_out: int | None = None
    hidden: int | None = None
    kernel: int | None = None
    stride: int | None = None
    se: bool | None = None
    activation: str | None = None
    residual: bool | None = None
    resolution_px: int | None = None

    def __str__(self) -> str:
        said = {part.name: getattr(self, part.name) for part in fields(self)}
        return " ".join(f"{name}={value}" for name, value in said.items() if value is not None)

    def fits(self, question: ForeignBlock) -> bool:
        """Whether this block is what a question asks for.

        Example:
            >>> ForeignBlock("conv", c_in=3, c_out=24).fits(ForeignBlock("conv", c_in=3))
            True
        """
        wanted = ((getattr(question, part.name), getattr(self, part.name)) for part in fields(self))
        return all(asked is None or asked == said for asked, said in wanted)


@dataclass(frozen=True)
class ForeignRow:
    """One line of a published table.

    Attributes:
        key: As it stands there.
        block: What it means.
        latency_us: Centre, of whatever kind the table keeps.
        std_us: Standard deviation; None if the table has none.
        count: Runs behind it; None if the table does not say.
    """

    key: str
    block: ForeignBlock
    latency_us: float
    std_us: float | None = None
    count: int | None = None


@dataclass(frozen=True)
class ForeignTable:
    """A published table.

    Attributes:
        source: Its file.
        digest: Sixteen hex digits of the sha256 of the file's bytes.
        column: Where the latencies were.
        unit: Of that column; in memory every time is in microseconds.
        rows: Those whose block is known.
        unknown: Row or line and key of the others, which are left out.
    """

    source: str
    digest: str
    column: str
    unit: Unit
    rows: tuple[ForeignRow, ...]
    unknown: tuple[tuple[str, str], ...] = ()

    def find(self, question: ForeignBlock) -> ForeignRow:
        """The one row that fits a question.

        Raises:
            TableError: If none or several do; names some.
        """
        found = [row for row in self.rows if row.block.fits(question)]
        if len(found) == 1:
            return found[0]
        some = ", ".join(repr(row.key) for row in found[:_SHOWN])
        raise TableError(
            f"{self.source}: {len(found)} of {counted(len(self.rows), 'block')} fit {question}"
            f"{': ' + some if some else ''}; expected one",
            hint="ask for more" if found else "see what the table holds: hwnas import TABLE",
        )

    def sum_us(self, questions: Sequence[ForeignBlock]) -> float:
        """What the blocks of a network add up to, in microseconds.

        Raises:
            TableError: If a block is missing or asked for too vaguely.
        """
        return math.fsum(self.find(question).latency_us for question in questions)

    def save(self, path: Path) -> None:
        """Write it as JSON lines: where it comes from, then one block a line. `import_table` reads it again.

        Raises:
            OSError: If the folder cannot be written.
        """
        head = {
            "schema": SCHEMA,
            "unit": "us",
            "source": self.source,
            "source_digest": self.digest,
            "column": self.column,
            "source_unit": self.unit,
            "left_out": len(self.unknown),
        }
        lines = [head, *(_written(row) for row in self.rows)]
        write_atomically(path, "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines))


def import_table(path: Path, *, unit: Unit | None = None, column: str | None = None) -> ForeignTable:
    r"""Read a published table.

    Args:
        path: Parquet, CSV, JSON, or JSON lines as `ForeignTable.save` writes them.
        unit: Of the latencies, where the file does not say.
        column: Which latencies, where the file has those of several devices.

    Raises:
        TableError: If the file cannot be read, has no or several columns of latencies, does not say its unit and none
            is given, says another than is given, or holds a damaged number or a block twice; names the rows.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "phone.csv"
        >>> _ = path.write_text("key,mean\nConv-input:224x224x3-output:112x112x24,0.99\n")
        >>> import_table(path, unit="ms").find(ForeignBlock("conv", c_in=3)).latency_us
        990.0
    """
    if unit is not None and unit not in _US:
        raise TableError(f'unit is "{unit}"; expected one of {", ".join(_US)}')
    readers: Mapping[str, Callable[[Path], list[tuple[str, Raw]]]] = {
        ".parquet": _parquet,
        ".csv": _csv,
        ".json": _json,
        ".jsonl": _json_lines,
    }
    if path.suffix not in readers:
        raise TableError(f"{path}: is of no known kind; expected {', '.join(readers)}")
    try:
        content = path.read_bytes()
        raw = readers[path.suffix](path)
    except TableError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors or OSErrors too
        raise TableError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    if not raw:
        raise TableError(f"{path}: holds no rows")
    digest = hashlib.sha256(content).hexdigest()[:16]
    if path.suffix == ".jsonl":
        return _saved(path, raw, digest)
    return _table(path, raw, digest, unit=unit, column=column)


# ------------------------------------------------------------------------------------------------------------ files


def _parquet(path: Path) -> list[tuple[str, Raw]]:
    import pyarrow.parquet  # here, because importing hwnas should not load it

    return [(f"row {n}", row) for n, row in enumerate(pyarrow.parquet.read_table(path).to_pylist(), start=1)]


def _csv(path: Path) -> list[tuple[str, Raw]]:
    import csv

    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        return [(f"line {reader.line_num}", {k: _number(v) for k, v in row.items()}) for row in reader]


def _json(path: Path) -> list[tuple[str, Raw]]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise TableError(f"{path}: is a JSON {type(value).__name__}; expected an object of block to latency")
    rows = (({"mean": v} if not isinstance(v, dict) else v) | {"key": k} for k, v in value.items())
    return [(f"entry {n}", row) for n, row in enumerate(rows, start=1)]


def _json_lines(path: Path) -> list[tuple[str, Raw]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(f"line {n}", json.loads(line)) for n, line in enumerate(lines, start=1)]


def _number(text: str | None) -> Any:
    try:
        return float(text or "")
    except ValueError:
        return text or None


# ---------------------------------------------------------------------------------------------------------- columns


def _table(
    path: Path, raw: list[tuple[str, Raw]], digest: str, *, unit: Unit | None, column: str | None
) -> ForeignTable:
    names = list(raw[0][1])
    key = next((name for name in _KEYS if name in names), None)
    if key is None:
        raise TableError(
            f"{path}: no column names the blocks; its columns are {', '.join(names)}, one of them should "
            f"be {', '.join(_KEYS)}"
        )
    column = _time_column(path, names, column)
    stated = next((u for u in get_args(Unit) if column.endswith(f"_{u}")), None)
    if stated is not None and unit is not None and unit != stated:
        raise TableError(f'{path}: column {column} is in "{stated}"; the unit given is "{unit}"', hint="leave it out")
    known: Unit | None = stated or unit
    if known is None:
        raise TableError(
            f"{path}: column {column} does not say its unit, so no time has a meaning",
            hint="find out, and give it: --unit us, --unit ms or --unit s",
        )
    rows: list[ForeignRow] = []
    unknown: list[tuple[str, str]] = []
    damaged: list[str] = []
    seen: dict[tuple[str, Any], str] = {}
    for where, row in raw:
        text = str(row.get(key))
        place = (text, row.get("resolution_px"))
        fault = _fault(row, column) or (f"stands at {seen[place]} too" if place in seen else "")
        if fault:
            damaged.append(f"{where} ({text}): {fault}")
            continue
        seen[place] = where
        block = _block(row, key)
        if block is None:
            unknown.append((where, text))
            continue
        rows.append(ForeignRow(text, block, float(row[column]) * _US[known], _spread(row, _US[known]), _count(row)))
    if damaged:
        more = f" and {len(damaged) - _SHOWN} more" if len(damaged) > _SHOWN else ""
        raise TableError(f"{path}: {len(damaged)} damaged: {'; '.join(damaged[:_SHOWN])}{more}", hint="get it again")
    if not rows:
        where, text = unknown[0]
        raise TableError(f"{path}: no block is of a known kind; {where} is {text!r}")
    return ForeignTable(str(path), digest, column, known, tuple(rows), tuple(unknown))


def _time_column(path: Path, names: Sequence[str], column: str | None) -> str:
    """The column of the latencies.

    Raises:
        TableError: If it is not there, or it has to be chosen and was not.
    """
    suffixes = tuple(f"_{unit}" for unit in get_args(Unit))
    spread = re.compile(r"_(std|var|spread)(_|$)")
    found = [name for name in names if (name in _TIMES or name.endswith(suffixes)) and not spread.search(name)]
    if column is not None:
        if column not in found:
            raise TableError(f'{path}: column "{column}" holds no latencies; {did_you_mean(column, found)}')
        return column
    if len(found) != 1:
        several = f"columns {', '.join(found)} all hold latencies" if found else "no column holds latencies"
        raise TableError(
            f"{path}: {several}", hint="choose one: --column NAME" if found else "expected latency_ms or mean"
        )
    return found[0]


def _fault(row: Raw, column: str) -> str:
    value = row.get(column)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        return f"{column} is {value!r}, expected a finite number above 0"
    return ""


def _spread(row: Raw, factor: float) -> float | None:
    """The standard deviation in microseconds; `latency_spread` of ProxylessNAS' table is a variance."""
    for name in ("latency_std_ms", "latency_std", "std"):
        if isinstance(row.get(name), int | float):
            return float(row[name]) * (_US["ms"] if name.endswith("_ms") else factor)
    for name in ("var", "latency_spread"):
        value = row.get(name)
        if isinstance(value, int | float) and value >= 0:
            return math.sqrt(value) * factor
    return None


def _count(row: Raw) -> int | None:
    value = row.get("count")
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else None


# ------------------------------------------------------------------------------------------------------------- keys

_CHAIN = re.compile(r"(?P<kind>[A-Za-z_0-9]+)-input:(?P<input>[\dx]+)-output:(?P<output>[\dx]+)(?P<rest>(-\w+:\d+)*)")
_CHAIN_KINDS: Mapping[str, BlockKind] = {
    "expanded_conv": "mbconv",
    "MBConv": "mbconv",
    "Conv": "conv",
    "Conv_1": "conv",
    "Conv_2": "conv",
    "first_conv": "conv",
    "final_expand_layer": "conv",
    "feature_mix_layer": "conv",
    "AvgPool2D": "pool",
    "Logits": "linear",
    "classifier": "linear",
}
_PHONE = re.compile(r"conv_(\d+)_(\d+)_(\d+)_(\d+)_(\d+)_(hard_swish|relu)_(\d+)_(se|nose)")
_PHONE_FIRST = re.compile(r"firstconv_(\d+)_(\d+)_(\d+)_(\d+)_(\d+)")


def _block(row: Raw, key: str) -> ForeignBlock | None:
    """The block of a row; None if its key follows none of the known grammars."""
    block = parse_key(str(row[key]))
    resolution = row.get("resolution_px")
    return replace(block, resolution_px=int(resolution)) if block is not None and resolution is not None else block


def parse_key(key: str) -> ForeignBlock | None:
    """What the key of a published table means; None if it follows no known grammar.

    `expand` is the number of hidden channels in Once-for-All's table and its ratio to the channels in the others; a
    number below the channels in is a ratio.

    Example:
        >>> found = parse_key("MBConv-input:28x28x24-output:14x14x40-expand:6-kernel:5-stride:2-idskip:0-se:1")
        >>> found.hidden, found.kernel, found.se, found.activation
        (144, 5, True, None)
    """
    if chain := _CHAIN.fullmatch(key):
        return _chain_block(chain)
    if phone := _PHONE.fullmatch(key):
        side, c_in, c_out, expand, stride = (int(text) for text in phone.groups()[:5])
        return ForeignBlock(
            "mbconv", c_in, side, c_out, -(-side // stride), c_in * expand, int(phone[7]), stride,
            phone[8] == "se", "hswish" if phone[6] == "hard_swish" else "relu", stride == 1 and c_in == c_out,
        )  # fmt: skip
    if first := _PHONE_FIRST.fullmatch(key):
        side, c_in, c_out, stride, kernel = (int(text) for text in first.groups())
        return ForeignBlock("conv", c_in, side, c_out, -(-side // stride), kernel=kernel, stride=stride)
    return None


def _chain_block(chain: re.Match[str]) -> ForeignBlock | None:
    kind = _CHAIN_KINDS.get(chain["kind"])
    entry, leave = _shape(chain["input"]), _shape(chain["output"])
    if kind is None or entry is None or leave is None:
        return None
    (side_in, c_in), (side_out, c_out) = entry, leave
    said = {name: int(value) for name, value in (part.split(":") for part in chain["rest"].split("-")[1:])}
    block = ForeignBlock(kind, c_in, side_in, c_out, side_out, kernel=said.get("kernel"), stride=said.get("stride"))
    if kind != "mbconv":
        return block
    expand = said.get("expand")
    return replace(
        block,
        hidden=expand if expand is None or expand >= c_in else expand * c_in,
        se=bool(said["se"]) if "se" in said else None,
        activation={1: "hswish", 0: "relu"}[said["hs"]] if said.get("hs") in {0, 1} else None,
        residual=bool(said["idskip"]) if "idskip" in said else None,
    )


def _shape(text: str) -> tuple[int, int] | None:
    """Side and channels of "28x28x24" or "1280"; None for anything else, an image that is not square among it."""
    numbers = [int(part) for part in text.split("x") if part]
    if len(numbers) == 1:
        return 1, numbers[0]
    return (numbers[0], numbers[2]) if len(numbers) == 3 and numbers[0] == numbers[1] else None


# ------------------------------------------------------------------------------------------------------ saved tables


def _written(row: ForeignRow) -> dict[str, Any]:
    block = {name: value for name, value in asdict(row.block).items() if value is not None}
    found = {"key": row.key, "latency": row.latency_us, "std": row.std_us, "count": row.count}
    return {name: value for name, value in found.items() if value is not None} | {"block": block}


def _saved(path: Path, raw: list[tuple[str, Raw]], digest: str) -> ForeignTable:
    head = raw[0][1]
    if not isinstance(head, dict) or head.get("schema") != SCHEMA:
        raise TableError(f'{path}: line 1: is not the header of a table that was imported; expected schema "{SCHEMA}"')
    known = {part.name for part in fields(ForeignBlock)}
    rows = []
    for where, row in raw[1:]:
        whole = isinstance(row, dict) and isinstance(row.get("key"), str) and isinstance(row.get("block"), dict)
        fault = _fault(row, "latency") if whole else "key or block is missing"
        if not fault and not row["block"].keys() <= known:
            fault = f"block holds {', '.join(sorted(row['block'].keys() - known))}, which is unknown"
        if fault:
            raise TableError(f"{path}: {where}: {fault}", hint="import it again: hwnas import TABLE --out FILE")
        block = ForeignBlock(**row["block"])
        rows.append(ForeignRow(row["key"], block, float(row["latency"]), row.get("std"), row.get("count")))
    return ForeignTable(str(path), digest, "latency", "us", tuple(rows))
