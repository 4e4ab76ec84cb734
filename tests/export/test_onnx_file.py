"""Case O-24: dynamic batch, one file, same numbers."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from hwnas.core import ExportError
from hwnas.export import BATCHES, add_metadata, check_parity, export_onnx, open_session, read_metadata
from hwnas.nn import write_onnx
from hwnas.zoo import FAMILIES


def trained() -> tuple[nn.Module, int]:
    """A toy-space network with hard-swish and squeeze-and-excite, its norms away from their initial values."""
    torch.manual_seed(0)
    family = FAMILIES["toy"]
    architecture = family.default()
    side = int(architecture["resolution"])
    network = family.supernet().extract(architecture).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.randn(8, 1, side, side)), torch.arange(8)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network, side


@pytest.mark.parametrize("training", [False, True])
def test_the_file_alone_says_the_same_at_every_batch(tmp_path: Path, *, training: bool) -> None:
    network, side = trained()
    network.train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    exported = export_onnx(network, tmp_path / "a" / "net.onnx", input_shape=(1, side, side), metadata={"seed": 3})
    assert all(part.training is training for part in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["net.onnx"]
    assert exported.size_bytes == exported.path.stat().st_size

    moved = tmp_path / "elsewhere.onnx"
    shutil.move(exported.path, moved)
    session = onnxruntime.InferenceSession(str(moved), providers=["CPUExecutionProvider"])
    network.eval()
    for n in (1, 2, 5, 16):
        images = np.random.default_rng(n).standard_normal((n, 1, side, side), dtype=np.float32)
        [found] = session.run(None, {"image": images})
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        assert np.abs(found - expected).max() <= 1e-4
    operators = {node.op_type for node in onnx.load(str(moved)).graph.node}
    assert "BatchNormalization" not in operators
    assert "HardSwish" in operators
    stored = read_metadata(moved)
    assert stored["parity"]["batches"] == list(BATCHES)
    assert 0 <= stored["parity"]["largest_difference"] <= 1e-4
    assert stored["seed"] == 3


def test_a_file_that_disagrees_is_refused_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, side = trained()
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    changed = FAMILIES["toy"].supernet().extract(FAMILIES["toy"].default())

    def other_weights(module: nn.Module, target: Path, *, input_shape: tuple[int, ...]) -> None:
        from hwnas.nn import write_onnx

        write_onnx(changed, target, input_shape=input_shape)

    monkeypatch.setattr("hwnas.export.onnx_file.write_onnx", other_weights)
    with pytest.raises(ExportError, match=r"differs from torch by .* at most 0.0001 is allowed"):
        export_onnx(network, path, input_shape=(1, side, side), metadata={})
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


def test_a_graph_with_a_fixed_batch_is_found_out(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    path = tmp_path / "fixed.onnx"
    with pytest.warns(DeprecationWarning):
        torch.onnx.export(network, (torch.zeros(1, 1, 2, 2),), str(path), dynamo=False, input_names=["image"])
    with pytest.raises(ExportError, match="does not run at batch 2"):
        check_parity(network, path, input_shape=(1, 2, 2))


class Loud(nn.Module):
    """A network that answers with logits of thousands, and another one with a little more."""

    def __init__(self, extra: float = 0.0) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        return 1000 * x.flatten(1)[:, :3] * (1 + self.extra)


@pytest.mark.parametrize(("share", "passes"), [(1e-6, True), (1e-4, False)])
def test_on_noise_a_share_of_the_largest_logit_is_allowed(tmp_path: Path, share: float, passes: bool) -> None:
    path = tmp_path / "loud.onnx"
    write_onnx(Loud(share), path, input_shape=(1, 2, 2))
    if passes:
        assert check_parity(Loud(), path, input_shape=(1, 2, 2)).largest_difference > 1e-4
    else:
        with pytest.raises(ExportError, match="differs from torch"):
            check_parity(Loud(), path, input_shape=(1, 2, 2))


def test_on_images_it_is_the_tolerance_itself(tmp_path: Path) -> None:
    path = tmp_path / "loud.onnx"
    write_onnx(Loud(1e-6), path, input_shape=(1, 2, 2))
    images = np.full((3, 1, 2, 2), 5.0, dtype=np.float32)
    with pytest.raises(ExportError, match=r"differs from torch by 0\.00\d+ on logits; at most 0\.0001 is allowed"):
        check_parity(Loud(), path, input_shape=(1, 2, 2), images=images)
    assert (
        check_parity(Loud(), path, input_shape=(1, 2, 2), images=(images / 5000).astype(np.float32)).largest_difference
        < 1e-5
    )


def test_metadata_is_added_replaced_and_strict(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(nn.Flatten(), path, input_shape=(1, 2, 2), metadata={"classes": ["ä", "b"]})
    add_metadata(path, {"classes": ["c"], "latency_measured": {"value": 0.1, "unit": "ms"}})
    assert read_metadata(path)["classes"] == ["c"]
    raw = {entry.key: json.loads(entry.value) for entry in onnx.load(str(path)).metadata_props}
    added = {"hwnas.parity", "hwnas.digest", "hwnas.exported_utc"}
    assert set(raw) == {"hwnas.classes", "hwnas.latency_measured"} | added
    with pytest.raises(ValueError, match="not JSON compliant"):
        add_metadata(path, {"latency_measured": float("nan")})
    assert read_metadata(path)["latency_measured"]["value"] == 0.1


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "holds no hwnas metadata|not an ONNX file"), (b"\xff" * 50, "not an ONNX file")],
)
def test_files_that_are_no_such_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExportError, match=f"x.onnx: .*({message})"):
        read_metadata(path)
    if content:
        with pytest.raises(ExportError, match=r"x.onnx: onnxruntime refuses it"):
            open_session(path)


def test_norms_that_no_convolution_can_take_in_may_stay(tmp_path: Path) -> None:
    """Before an activation and its convolution, as in dense cells, or of a sum, as at the end of NAS-Bench-201."""
    torch.manual_seed(0)
    rest = (nn.Conv2d(4, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for number, parts in enumerate([(nn.BatchNorm2d(4), nn.ReLU()), (nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))]):
        exported = export_onnx(
            nn.Sequential(*parts, *rest), tmp_path / f"{number}.onnx", input_shape=(4, 6, 6), metadata={"seed": 3}
        )
        kinds = [node.op_type for node in onnx.load(str(exported.path)).graph.node]
        assert kinds.count("BatchNormalization") == (1 if number == 0 else 0)


def test_a_norm_that_was_forgotten_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())
    node = onnx.helper.make_node
    info = onnx.helper.make_tensor_value_info
    float32 = onnx.TensorProto.FLOAT
    ends = [info(name, float32, ["n", 1, 4, 4]) for name in ("x", "y")]
    norm = node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"])
    graph = onnx.helper.make_graph([node("Conv", ["x", "w"], ["c"]), norm], "g", ends[:1], ends[1:])

    def written(network: nn.Module, path: Path, *, input_shape: tuple[int, ...]) -> None:
        onnx.save(onnx.helper.make_model(graph), str(path))

    monkeypatch.setattr("hwnas.export.onnx_file.write_onnx", written)
    with pytest.raises(ExportError, match="1 batch norms were not folded"):
        export_onnx(network, tmp_path / "net.onnx", input_shape=(1, 4, 4), metadata={})


@pytest.mark.parametrize("fault", [float("nan"), float("inf")])
def test_a_network_that_answers_with_nan_does_not_pass_as_equal(tmp_path: Path, fault: float) -> None:
    """As max(0.0, nan) is 0.0, a network of NaN would agree with its file to the bit."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    path = tmp_path / "net.onnx"
    write_onnx(network, path, input_shape=(1, 2, 2))
    nn.init.constant_(network[1].bias, fault)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=r"the network answers with 2 of 2 logits that are not finite.*at batch 1"):
        check_parity(network, path, input_shape=(1, 2, 2))
    with pytest.raises(ExportError, match="the network answers with 2 of 2 logits that are not finite"):
        export_onnx(network, tmp_path / "other.onnx", input_shape=(1, 2, 2), metadata={})
    broken = tmp_path / "broken.onnx"
    write_onnx(network, broken, input_shape=(1, 2, 2))
    nn.init.zeros_(network[1].bias)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="the ONNX file answers with 2 of 2 logits that are not finite"):
        check_parity(network, broken, input_shape=(1, 2, 2))
