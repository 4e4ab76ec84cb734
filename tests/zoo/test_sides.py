import pytest

from hwnas.core import SpaceError
from hwnas.zoo import FAMILIES, family
from hwnas.zoo.sides import check_sides


@pytest.mark.parametrize(
    ("sides", "step", "least", "nearest"),
    [
        ([50], 32, 1, "multiples of 32: the nearest are 32 and 64"),
        ([32, 65], 32, 1, "multiples of 32: the nearest are 64 and 96"),
        ([5], 32, 1, "multiples of 32: the smallest is 32"),
        ([3], 1, 8, "at least 8: the smallest is 8"),
        ([40], 16, 50, "multiples of 16: the smallest is 64"),
    ],
)
def test_the_nearest_sides_that_strides_allow_are_named(sides: list[int], step: int, least: int, nearest: str) -> None:
    with pytest.raises(SpaceError, match=f"resolutions holds {sides[-1]}; the stem divides it, so expected {nearest}"):
        check_sides(sides, why="the stem divides it", step=step, least=least)
    legal = [int(word) for word in nearest.split(":")[1].split() if word.isdigit()]
    check_sides(legal, why="", step=step, least=least)


@pytest.mark.parametrize("sides", [[], [32, 32], [64, 32]])
def test_sides_ascend(sides: list[int]) -> None:
    with pytest.raises(SpaceError, match="expected ascending numbers, each once"):
        check_sides(sides, why="")


@pytest.mark.parametrize("name", ["bossnas_hytra", "dpp_net", "nasbench201", "smash", "nats_size"])
def test_families_of_strides_say_so(name: str) -> None:
    """The family itself refuses the side: it is made when the recipe is read, before anything else is done."""
    assert name in FAMILIES
    with pytest.raises(SpaceError, match="resolutions holds 33; .* expected multiples of .*: the"):
        family(name, {"resolutions": [33]}, channels=3, classes=2)
