from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.core import StoreError
from hwnas.nn import is_chain, load_network, save_network
from hwnas.zoo import FAMILIES
from tests.nn.own_nets import Plain


def test_a_network_comes_back_from_one_file(tmp_path: Path) -> None:
    family = FAMILIES["toy"]
    torch.manual_seed(0)
    net = family.supernet().eval()
    for n, architecture in enumerate(family.space.sample(3, np.random.default_rng(0))):
        network = net.extract(architecture)
        path = tmp_path / f"{n}.safetensors"
        save_network(path, network, blocks=family.space.blocks_of(architecture), architecture=architecture)
        x = torch.randn(2, 1, int(architecture["resolution"]), int(architecture["resolution"]))
        again = load_network(path)
        assert not again.training
        assert torch.equal(again(x), network(x))


@pytest.mark.parametrize("content", [b"", b"{}", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"x.safetensors: no network that hwnas wrote"):
        load_network(path)
    with pytest.raises(StoreError, match="missing.safetensors"):
        load_network(tmp_path / "missing.safetensors")


def test_a_network_of_a_model_space_is_loaded_by_its_class(tmp_path: Path) -> None:
    net = Plain(1, 4)
    plain = net.extract(net.default()).eval()
    path = tmp_path / "plain.safetensors"
    save_network(path, plain, blocks=None, architecture=net.default())
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(load_network(path, model=Plain(1, 4))(x), plain(x))
    with pytest.raises(StoreError, match="only its class can build") as raised:
        load_network(path)
    assert "model=..." in raised.value.hint
    assert not is_chain(path)
