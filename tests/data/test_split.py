from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.core import DataError
from hwnas.data import ImageData, Part, Splits, split


def made(counts: list[int], *, seed: int = 0) -> ImageData:
    """So many images of each class, in random order, each pixel the image's number."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.broadcast_to(np.arange(len(labels), dtype=np.uint8)[:, None, None, None], (len(labels), 2, 2, 1))
    return ImageData(images, labels, tuple(f"class{i}" for i in range(len(counts))), "made up")


shares = st.floats(0.01, 0.45)


@given(st.lists(st.integers(12, 60), min_size=1, max_size=5), shares, shares, st.integers(0, 2**40))
def test_parts_are_disjoint_complete_and_stratified(
    counts: list[int], validation: float, test: float, seed: int
) -> None:
    data = made(counts)
    splits = split(data, validation=validation, test=test, seed=seed)
    everyone = np.concatenate([part.indices for part in splits.parts().values()])
    assert sorted(everyone.tolist()) == list(range(len(data)))
    for label, count in enumerate(counts):
        for share, part in ((validation, splits.validation), (test, splits.test)):
            assert abs(part.counts()[f"class{label}"] - share * count) <= 1
            assert part.counts()[f"class{label}"] >= 1
    assert all(a < b for part in splits.parts().values() for a, b in pairwise(part.indices.tolist()))


@given(st.lists(st.integers(5, 40), min_size=1, max_size=4), st.integers(1, 150), st.integers(0, 9))
def test_a_limit_is_kept_and_classes_stay_in_proportion(counts: list[int], limit: int, seed: int) -> None:
    data = made(counts)
    if limit < 3 * len(counts):
        with pytest.raises(DataError, match=f"limit is {limit}"):
            split(data, seed=seed, limit=limit)
        return
    splits = split(data, seed=seed, limit=limit)
    used = np.concatenate([part.indices for part in splits.parts().values()])
    assert len(used) == len(set(used.tolist())) == min(limit, len(data))
    for label, count in enumerate(counts):
        kept = int((data.labels[used] == label).sum())
        # the two images above its share that a small class gets at once come out of all classes' shares
        assert kept >= min(count, 3)
        assert abs(kept - count * min(1.0, limit / len(data))) <= 2 * len(counts) + 1


def test_every_class_is_in_every_part_of_an_imbalanced_set() -> None:
    """Case O-05."""
    splits = split(made([190, 6, 4]), seed=0)
    assert splits.counts() == {
        "train": {"class0": 134, "class1": 4, "class2": 2},
        "validation": {"class0": 28, "class1": 1, "class2": 1},
        "test": {"class0": 28, "class1": 1, "class2": 1},
    }
    assert splits.to_json()["counts"] == splits.counts()


def test_a_class_that_is_too_small_is_named() -> None:
    """Case O-05, the refusal."""
    with pytest.raises(DataError, match='"class1" has 2 images and needs at least 3 images, so that train, v'):
        split(made([20, 2]), seed=0)
    with pytest.raises(DataError, match='"class1" has 1 image and needs at least 2 images, so that train, v'):
        split(made([20, 1]), test=made([1, 1]), seed=0)


def test_same_seed_same_split_and_other_seeds_differ() -> None:
    data = made([30, 30])
    one, again, other = (split(data, seed=seed) for seed in (7, 7, 8))
    assert all(
        np.array_equal(a.indices, b.indices) for a, b in zip(one.parts().values(), again.parts().values(), strict=True)
    )
    assert one.to_json() == again.to_json()
    assert one.to_json()["digest"] != other.to_json()["digest"]


def test_a_class_moves_nobody_of_another() -> None:
    small, large = (made([30, count]) for count in (10, 50))

    def ranks(data: ImageData) -> list[int]:
        members = np.flatnonzero(data.labels == 0)
        return np.flatnonzero(np.isin(members, split(data, seed=1).validation.indices)).tolist()

    assert ranks(small) == ranks(large)


def test_given_parts_are_used_as_they_are() -> None:
    data, validation, test = made([20, 20]), made([3, 4], seed=1), made([5, 2], seed=2)
    splits = split(data, validation=validation, test=test, seed=0)
    assert [len(part) for part in splits.parts().values()] == [40, 7, 7]
    splits = split(data, test=test, seed=0)
    assert [len(part) for part in splits.parts().values()] == [34, 6, 7]
    splits = split(data, test=test, seed=0, limit=5)
    assert [len(part) for part in splits.parts().values()] == [3, 2, 5]


@pytest.mark.parametrize(("validation", "test"), [(0.0, 0.1), (0.1, 1.0), (-0.1, 0.1)])
def test_shares_out_of_range_are_named(validation: float, test: float) -> None:
    with pytest.raises(DataError, match=r"(validation is (0\.0|-0\.1)|test is 1\.0); it is a share"):
        split(made([20, 20]), validation=validation, test=test, seed=0)


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(DataError, match=r"validation \+ test is 1\.1; nothing is left"):
        split(made([20, 20]), validation=0.6, test=0.5, seed=0)


def test_parts_that_do_not_belong_together_are_refused() -> None:
    data = made([4, 4])
    part = Part(data, np.arange(8))
    with pytest.raises(DataError, match="classes of test are x, class1; those of train are class0, class1"):
        Splits(part, part, Part(replace(data, classes=("x", "class1")), np.arange(8)))
    with pytest.raises(DataError, match="validation has 3 channels and train 1"):
        Splits(part, Part(data.with_channels(3), np.arange(8)), part)
    only_first = Part(data, np.flatnonzero(data.labels == 0))
    with pytest.raises(DataError, match=r'class "class1" has no image in the test part \(4 in train\)'):
        Splits(part, part, only_first)


def test_a_part_gives_its_images_and_labels_in_order() -> None:
    data = made([4, 4])
    part = Part(data, np.array([1, 5, 6]))
    assert [int(image[0, 0, 0]) for image in part] == [1, 5, 6]
    assert part.labels.tolist() == data.labels[[1, 5, 6]].tolist()
    assert len(part) == sum(part.counts().values()) == 3


def test_all_classes_that_are_too_small_are_named_with_what_each_needs() -> None:
    with pytest.raises(DataError) as caught:
        split(made([20, 1, 2, 4]), validation=0.45, test=0.45, seed=0)
    assert '"class1" has 1 image and needs at least 3 images' in caught.value.message
    assert '"class2" has 2 images and needs at least 3 images' in caught.value.message
    assert '"class3" has 4 images and needs at least 5 images' in caught.value.message, "4 go to validation and test"
    assert "add images" in caught.value.hint
    with pytest.raises(DataError, match="and 3 more classes, so that train, validation, test have one"):
        split(made([20, *[1] * 13]), seed=0)


def test_a_limit_that_leaves_too_few_of_a_class_is_blamed_itself() -> None:
    with pytest.raises(
        DataError, match="of which limit = 8 leaves 8 images: class .* has 4 images and needs at least"
    ) as caught:
        split(made([20, 20]), validation=0.45, test=0.45, seed=0, limit=8)
    assert "raise limit" in caught.value.hint
