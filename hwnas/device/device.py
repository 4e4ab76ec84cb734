"""One target of a search, as `devices/<name>.toml` describes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hwnas.core import LARGEST_WHOLE, DeviceError, parse_toml, read_text
from hwnas.core.errors import did_you_mean
from hwnas.device.measure import (
    CoresError,
    Fingerprint,
    QuotaReader,
    allowed_cores,
    cgroup_quota,
    choose_cores,
    core_kinds,
    core_siblings,
)
from hwnas.device.roofline import Roofline
from hwnas.device.threads import MOST_THREADS

_PYTHON = "python3"

Runtime = Literal[
    "onnxruntime-cpu", "onnxruntime-cuda", "onnxruntime-tensorrt", "torch", "torch-compile", "openvino", "none"
]
"""What runs and times networks. The torch ones are for comparison: what is handed over is ONNX. "none": nothing can."""


class Device(BaseModel):
    """A device: how to reach it, and under which conditions networks run there.

    Attributes:
        name: The file's name without `.toml`; part of a table's name.
        reach: "local": this machine; "ssh": `host`, over ssh; "kit": a board that a folder is carried to by hand;
            "none": nobody here has one, and its latencies are estimated from `roofline`. Need not be given where there
            is a host.
        host: As ssh takes it: "user@board", or a name from ~/.ssh/config.
        port: Of the ssh server there; None: ssh's own choice.
        identity: File of the private key; None: ssh's own choice.
        python: The interpreter there; it needs numpy and onnxruntime.
        runtime: What times the networks, and should be what runs them later; "none" where nothing is timed.
        threads: Of the runtime, inside one operator.
        precision: Of weights and activations.
        batch: Images at once.
        core: The first core to pin to; None: the fastest ones that the process may use, of equal ones the last.
        gpu: Of NVIDIA, by the UUID that `hwnas devices` shows ("GPU-..." or "MIG-..."), as numbers mean other GPUs to
            other programs; "auto": the only one that is visible. None: with the torch runtimes the CPU, else "auto".
        roofline: What data sheets say of a device that cannot be reached.

    Example:
        >>> Device(name="this-cpu").threads
        1
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(min_length=1)
    reach: Literal["local", "ssh", "kit", "none"] = "local"
    # Neither may begin with a dash: ssh would take it for an option.
    host: str | None = Field(default=None, pattern=r"^[^\s-]\S*$")
    port: int | None = Field(default=None, ge=1, le=65535)
    identity: str | None = Field(default=None, min_length=1)
    python: str = Field(default=_PYTHON, pattern=r"^[^\s-]\S*$")
    runtime: Runtime = "onnxruntime-cpu"
    threads: int = Field(default=1, ge=1, le=MOST_THREADS)
    precision: Literal["float32"] = "float32"
    batch: int = Field(default=1, ge=1, le=LARGEST_WHOLE)
    core: int | None = Field(default=None, ge=0, le=LARGEST_WHOLE)
    gpu: str | None = Field(default=None, pattern=r"^(auto|(GPU|MIG)-[0-9A-Za-z/-]+)$")

    @model_validator(mode="after")
    def _gpu_is_used(self) -> Self:
        if self.gpu is not None and self.runtime in {"onnxruntime-cpu", "openvino"}:
            raise ValueError(f"{self.runtime} runs on the CPU; drop gpu, or choose onnxruntime-cuda")
        if self.gpu is not None and self.runtime == "none":
            raise ValueError('runtime is "none", so gpu has no use: drop it')
        if self.reach == "kit" and self.runtime in {"torch", "torch-compile"}:
            raise ValueError(
                f'runtime is "{self.runtime}" and reach is "kit"; a kit holds ONNX files, which torch does not load: '
                'choose an onnxruntime or openvino, or reach "ssh"'
            )
        return self

    @property
    def uses_gpu(self) -> bool:
        """Whether networks run on a GPU.

        Example:
            >>> Device(name="a", runtime="onnxruntime-cuda").uses_gpu, Device(name="a", runtime="torch").uses_gpu
            (True, False)
        """
        return self.runtime in {"onnxruntime-cuda", "onnxruntime-tensorrt"} or self.gpu is not None

    roofline: Roofline | None = None

    @model_validator(mode="after")
    def _measured_or_estimated(self) -> Self:
        if (self.reach == "none") != (self.runtime == "none"):
            raise ValueError(f'reach is "{self.reach}" and runtime is "{self.runtime}"; both are "none" or neither is')
        if (self.reach == "none") != (self.roofline is not None):
            raise ValueError(f'reach is "{self.reach}"; it is "none" exactly where there is a [roofline] table')
        return self

    @property
    def estimated(self) -> bool:
        """Whether nothing can be timed on the device, so that its latencies are estimated."""
        return self.reach == "none"

    @model_validator(mode="before")
    @classmethod
    def _host_means_ssh(cls, values: Any) -> Any:
        return {"reach": "ssh"} | values if isinstance(values, dict) and values.get("host") is not None else values

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.reach == "ssh" and self.host is None:
            raise ValueError('reach is "ssh", so host must be given: "user@board"')
        python = None if self.python == _PYTHON else self.python
        for name, value in {"host": self.host, "port": self.port, "identity": self.identity, "python": python}.items():
            if self.reach != "ssh" and value is not None:
                raise ValueError(f'reach is "{self.reach}", so {name} = {value!r} has no use: drop one of the two')
        return self

    @classmethod
    def load(cls, name_or_path: str | Path, folder: Path = Path("devices")) -> Device:
        """The device of that name in the folder, or of that file.

        Args:
            name_or_path: "this-cpu", or a path that ends in ".toml".
            folder: Where named devices lie.

        Raises:
            DeviceError: If there is no such file, it is not TOML, or a key or value is wrong; names the nearest key.

        Example:
            >>> import tempfile
            >>> folder = Path(tempfile.mkdtemp())
            >>> _ = (folder / "pi4.toml").write_text("threads = 4")
            >>> Device.load("pi4", folder).threads
            4
        """
        path = Path(name_or_path)
        if path.suffix != ".toml":
            path = folder / f"{name_or_path}.toml"
        if not path.exists():
            raise DeviceError(f"{path}: there is no such device file; {_others(path)}", hint="hwnas devices lists them")
        values = parse_toml(read_text(path, DeviceError, what="device file"), path, DeviceError)
        keys = [key for key in cls.model_fields if key != "name"]
        for key, value in values.items():
            if key == "name":
                raise DeviceError(
                    f"{path}: name is \"{value}\"; the file's own name is the device's name: drop the key"
                )
            if key not in keys:
                raise DeviceError(f"{path}: unknown key {key} = {value!r}; {did_you_mean(key, keys)}")
        try:
            return cls(name=path.stem, **values)
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:  # about several keys together
                raise DeviceError(f"{path}: {first['msg'].removeprefix('Value error, ')}") from error
            expected = first["msg"].removeprefix("Input should be ")
            where = ".".join(map(str, first["loc"]))
            if first["type"] == "missing":
                raise DeviceError(f"{path}: {where} is missing; every figure of a roofline must be given") from error
            raise DeviceError(f"{path}: {where} is {first['input']!r}; it must be {expected}") from error

    def check_reachable(self) -> None:
        """That networks can be timed on the device.

        Raises:
            DeviceError: If it is one that nobody here has.
        """
        if self.estimated:
            raise DeviceError(
                f'device {self.name}: reach is "none": it cannot be reached, so nothing can be timed on it',
                hint="hwnas search works without a table, from its [roofline]; or name a device that can be reached",
            )

    def check_cores(
        self, cores: tuple[int, ...] | None = None, *, quota: QuotaReader = cgroup_quota
    ) -> tuple[int, ...] | None:
        """The cores to pin to, having checked that there are enough.

        Args:
            cores: Those the process may use, all alike; asked of the system if not given.
            quota: Says how many cores' worth of time the process may spend.

        Returns:
            As many cores as the device has threads; None on systems without affinity.

        Raises:
            DeviceError: If there are fewer cores than threads, the core to pin to is not allowed, or the device is one
                that cannot be reached.

        Example:
            >>> Device(name="a").check_cores((0, 1), quota=lambda: None)
            (1,)
        """
        self.check_reachable()
        if cores is not None:
            return self.choose_cores(cores, quota())
        return self.choose_cores(allowed_cores(), quota(), kinds=core_kinds(), siblings=core_siblings())

    def cores_of(self, here: Fingerprint) -> tuple[int, ...] | None:
        """The same on a machine that has said what it is.

        Args:
            here: The machine.

        Raises:
            DeviceError: As `check_cores`.
        """
        return self.choose_cores(here.affinity, here.quota, kinds=here.core_kinds, siblings=here.siblings)

    def choose_cores(
        self,
        cores: tuple[int, ...] | None,
        quota: float | None,
        *,
        kinds: Mapping[str, tuple[int, ...]] | None = None,
        siblings: tuple[tuple[int, ...], ...] | None = None,
    ) -> tuple[int, ...] | None:
        """The same where cores and quota are already known: those of another machine.

        Args:
            cores: Those a process may use; None where the system does not say.
            quota: Cores' worth of time a process may spend; None where nothing limits it.
            kinds: Which cores are equally fast, the fastest first; None: all are.
            siblings: The hardware threads of each core that has several; None: none has.

        Raises:
            DeviceError: As `check_cores`.
        """
        where = "here" if self.host is None else f"on {self.host}"
        try:
            return choose_cores(
                self.threads, self.core, cores=cores, quota=quota, where=where, kinds=kinds, siblings=siblings
            )
        except CoresError as error:
            raise DeviceError(f"device {self.name}: {error}", hint=error.hint) from error


def _others(path: Path) -> str:
    known = [other.stem for other in path.parent.glob("*.toml")]
    return did_you_mean(path.stem, known) if known else f"{path.parent} holds none"
