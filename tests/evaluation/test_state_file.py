import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hwnas.core import StoreError
from hwnas.evaluation.state_file import load_state, read_state, save_state
from hwnas.study import Study
from hwnas.testing import check_training_state
from tests.study.toys import Numbers, study


def modules() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    net = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1)
    )
    return net, torch.optim.AdamW(net.parameters(), lr=0.01)


def test_modules_and_optimizers_come_back(tmp_path: Path) -> None:
    net, optimizer = modules()
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    save_state({"net": net, "optimizer": optimizer}, tmp_path / "a")
    other, restored = modules()
    load_state({"net": other, "optimizer": restored}, tmp_path / "a")
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    assert restored.state_dict()["state"][0]["step"] == 1


def test_a_file_written_before_torch_was_imported_is_read_after(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"net": {"value": 0.1}}')
    net = Numbers()
    load_state({"net": net}, tmp_path / "a")
    assert net.value == 0.1


def test_without_torch_a_state_that_is_not_json_is_refused(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from hwnas.evaluation.state_file import save_state\n"
        "class A:\n"
        "    def __init__(self, a): self.a = a\n"
        "    def state_dict(self): return {'a': self.a}\n"
        "    def load_state_dict(self, s): pass\n"
        "for state in [object(), {1: 2}, float('nan'), (1, 2)]:\n"
        "    try: save_state({'net': A(state)}, Path(sys.argv[1]))\n"
        "    except Exception as error: print(error)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == [
        "the state of net is neither tensors nor JSON"
    ] * 4
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("damage", ["half", "empty", "text", "list", "code", "bytes"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "net@1.ckpt"
    save_state({"net": modules()[0]}, path)
    match damage:
        case "half":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("weights")
        case "list":
            path.write_text("[1]")
        case "bytes":
            path.write_bytes(b"PK" + bytes(62) + b"\x80\x81")
        case "code":  # a pickle that would run something when loaded
            torch.save({"net": Numbers()}, path)
    with pytest.raises(StoreError, match=r"net@1\.ckpt: the checkpoint is damaged: .") as caught:
        read_state(path)
    for advice in ("weights_only", "trust", "arbitrary", "codec", "Stream", "Expecting"):
        assert advice not in str(caught.value)
    assert "delete the damaged one and run the same command again: what net@1 stands for" in caught.value.hint


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (torch.nn.Sequential(torch.nn.Linear(3, 5)), r"0\.weight has the shape \(5, 3\), expected \(4, 3\)"),
        (torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)), r"1\.weight is unknown"),
        (torch.nn.Sequential(torch.nn.Linear(3, 4, bias=False)), r"0\.bias is missing"),
    ],
)
def test_a_checkpoint_of_another_network_says_where_they_part(
    tmp_path: Path, other: torch.nn.Module, message: str
) -> None:
    path = tmp_path / "net@1.ckpt"
    save_state({"net": other}, path)
    with pytest.raises(StoreError, match=f"it holds another net than this run's: {message}"):
        load_state({"net": torch.nn.Sequential(torch.nn.Linear(3, 4))}, path)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net@1.ckpt"
    torch.save({"net": torch.zeros(3)}, path)
    with pytest.raises(StoreError, match="it holds another net than this run's: a state of type Tensor"):
        load_state({"net": modules()[0]}, path)
    with pytest.raises(StoreError, match="it holds no 'optimizer', only net"):
        load_state({"optimizer": modules()[1]}, path)


def test_a_full_disk_is_said_of_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StoreError, match=r"net@1\.ckpt: the state could not be written") as caught:
        save_state({"net": modules()[0]}, tmp_path / "net@1.ckpt")
    assert "free some space" in caught.value.hint


def test_a_killed_training_of_real_weights_equals_the_unbroken_one(tmp_path: Path) -> None:
    """Case O-18, second part, on one thread: the weights are equal to the bit."""

    class Kill(BaseException):
        pass

    def program(searched: Study, kill: int) -> list[torch.Tensor]:
        net, optimizer = modules()

        def epoch(k: int, rng: object) -> float:
            if k == kill:
                raise Kill
            loss = net(torch.randn(8, 3)).square().mean()  # draws from torch's global generator, as dropout does
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        searched.train("net", {"net": net, "optimizer": optimizer}, epoch, 6)
        searched.restore()
        return [tensor.clone() for tensor in net.state_dict().values()]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = program(study(), -1)
        for kill in (1, 3, 4):
            with study(folder=tmp_path) as searched, pytest.raises(Kill):
                program(searched, kill)
        with study(folder=tmp_path) as searched:
            found = program(searched, -1)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_undeclared_state_of_real_weights_is_found() -> None:
    def build(declared: bool) -> "tuple[dict[str, object], object]":
        net, optimizer = modules()

        def epoch(k: int, rng: object) -> float:
            loss = net(torch.randn(8, 3)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return 0.0

        return ({"net": net, "optimizer": optimizer} if declared else {"net": net}), epoch

    check_training_state(lambda: build(True))  # type: ignore[arg-type, return-value]
    with pytest.raises(AssertionError, match=r"epoch 2 resumed from its checkpoint left another state\['net'\]"):
        check_training_state(lambda: build(False))  # type: ignore[arg-type, return-value]
