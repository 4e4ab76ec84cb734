from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from hwnas.core import RecipeError
from hwnas.nn import Block, LayerChoice, ModelSpace
from hwnas.training import DartsTrainer, PairBatch


class Shift(nn.Module):
    """Shows the head one half of the image: only one of the two halves tells the classes apart."""

    def __init__(self, side: str) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        half = x[..., :2] if self.side == "left" else x[..., 2:]
        return half.flatten(1)


class Halves(ModelSpace):
    def __init__(self, resolutions: tuple[int, ...] = (4,)) -> None:
        super().__init__(resolutions=resolutions, channels=1)
        self.see = LayerChoice({"left": Shift("left"), "right": Shift("right")}, label="see")
        self.head = Block(nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.see(x)))


def data(n: int = 64) -> TensorDataset:
    """The class is in the right half; the left is noise."""
    images = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(n) % 2
    images[..., 2:] += (labels * 2.0 - 1.0).reshape(-1, 1, 1, 1)
    return TensorDataset(images, labels)


def trainer(net: Halves, *, epochs: int = 12, unrolled: bool = False, log: list[str] | None = None) -> DartsTrainer:
    return DartsTrainer(
        net,
        loss=nn.CrossEntropyLoss(),
        metrics=lambda output, target: {"accuracy": float((output.argmax(1) == target).float().mean())},
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
        num_epochs=epochs,
        dataset_train=data(),
        dataset_valid=data(),
        batch_size=16,
        arc_learning_rate=0.05,
        unrolled=unrolled,
        log=None if log is None else log.append,
    )


@pytest.mark.parametrize("unrolled", [False, True])
def test_it_finds_the_branch_that_sees_the_classes(unrolled: bool) -> None:
    torch.manual_seed(0)
    net, lines = Halves(), list[str]()
    search = trainer(net, unrolled=unrolled, log=lines)
    search.fit()
    assert search.export() == {"resolution": 4, "see": "right"}
    assert search.parameters.probabilities()["see"][1] > 0.6
    assert search.history[-1]["validation accuracy"] > 0.9
    assert len(lines) == len(search.history) == 12
    assert "validation accuracy" in lines[-1]
    plain = net.extract(net.space.canonical(search.export()))
    assert plain(torch.zeros(1, 1, 4, 4)).shape == (1, 2)


def test_equal_seeds_are_equal_searches() -> None:
    shares = []
    for _ in range(2):
        torch.manual_seed(0)
        search = trainer(Halves(), epochs=2)
        search.fit()
        shares.append(search.parameters.probabilities()["see"].tolist())
    assert shares[0] == shares[1]


def test_the_users_optimizer_keeps_its_rate() -> None:
    net = Halves()
    search = trainer(net, epochs=1)
    search.fit()
    assert search._trainer.optimizer.param_groups[0]["lr"] == 0.1


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(RecipeError, match=r"has the resolutions \[4, 8\]; a data set has one"):
        trainer(Halves((4, 8)))
    with pytest.raises(RecipeError, match=r"gives images of \(4, 4\), the model space is for 8"):
        trainer(Halves((8,)), epochs=1).fit()
    with pytest.raises(RecipeError, match="a data set of 0 images"):
        DartsTrainer(
            Halves(),
            loss=nn.CrossEntropyLoss(),
            metrics=lambda output, target: {},
            optimizer=torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1),
            num_epochs=1,
            dataset_train=data(0),
            dataset_valid=data(),
        )


def test_a_pair_batch_splits_as_every_batch() -> None:
    parts = PairBatch(torch.arange(5.0).reshape(5, 1, 1, 1), torch.arange(5)).split(2)
    assert [part.labels.tolist() for part in parts] == [[0, 1, 2], [3, 4]]
    assert len(PairBatch(torch.zeros(1, 1, 1, 1), torch.zeros(1)).split(3)) == 1


class OnePixel(ModelSpace):
    """Features of 1x1 under a batch norm, which refuses a batch of one."""

    def __init__(self) -> None:
        super().__init__(resolutions=(4,), channels=1)
        self.see = LayerChoice({"a": nn.Conv2d(1, 3, 4), "b": nn.Conv2d(1, 3, 4)}, label="see")
        self.rest = Block(nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2)))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.rest(self.see(x)))


@pytest.mark.parametrize(("images", "sizes"), [(17, [17]), (33, [16, 17]), (32, [16, 16]), (18, [16, 2])])
def test_a_last_batch_of_one_joins_the_one_before(images: int, sizes: list[int]) -> None:
    net = OnePixel()
    seen: list[int] = []
    search = DartsTrainer(
        net,
        loss=nn.CrossEntropyLoss(),
        metrics=lambda output, target: {},
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        num_epochs=1,
        dataset_train=data(images),
        dataset_valid=data(images),
        batch_size=16,
    )
    net.rest.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])) if net.training else None)
    search.fit()
    assert [n for k, n in enumerate(seen) if k % 2] == sizes  # each weight step follows a step on validation images
    assert search.history[0]["images"] == images
