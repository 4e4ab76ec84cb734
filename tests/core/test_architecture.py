import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.core import Architecture, SpaceError
from hwnas.space import Decision, Space

options = st.dictionaries(
    st.text(min_size=1, max_size=8), st.integers(-5, 300) | st.text(max_size=5) | st.booleans() | st.floats(-2, 2)
)


@given(options)
def test_round_trips_through_json(values: dict[str, int | str | float]) -> None:
    a = Architecture(values)
    again = Architecture.from_json(a.to_json())
    assert again == a
    assert hash(again) == hash(a)
    assert again.digest == a.digest
    assert dict(again) == values


@given(options)
def test_items_come_sorted_as_the_mapping_has_them(values: dict[str, int | str | float]) -> None:
    a = Architecture(values)
    assert list(a.items()) == [(label, a[label]) for label in a] == sorted(values.items(), key=lambda item: item[0])


def test_messages_name_it_by_its_digest_and_its_decisions() -> None:
    a = Architecture({"stage1.kernel": 5, "depth": 2, "se": False})
    assert f"{a}" == f"{a.digest} (depth=2 se=False stage1.kernel=5)"
    message = r"^space two: no other network than 615b1dfe8431 \(k=3\) in \d+ mutations$"
    with pytest.raises(SpaceError, match=message):
        Space("two", (Decision("k", (3,)),)).mutate(Architecture({"k": 3}), np.random.default_rng(0))


@given(options, st.randoms())
def test_order_of_labels_does_not_matter(values: dict[str, int | str | float], random: object) -> None:
    shuffled = list(values.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Architecture(dict(shuffled)) == Architecture(values)
    assert Architecture(dict(shuffled)).digest == Architecture(values).digest


def test_different_options_differ() -> None:
    assert Architecture({"k": 3}) != Architecture({"k": 5})
    assert Architecture({"k": 3}) != {"k": 3}, "a plain map is not an architecture"
    assert len({Architecture({"k": 3}), Architecture({"k": 3}), Architecture({"k": 5})}) == 2


def test_is_a_frozen_mapping() -> None:
    a = Architecture({"b": 1, "a": 2})
    assert list(a) == ["a", "b"]
    with pytest.raises(TypeError):
        a["a"] = 3  # type: ignore[index]


def test_refuses_what_is_no_option() -> None:
    with pytest.raises(SpaceError, match=r"'k' is \[3\]"):
        Architecture({"k": [3]})  # type: ignore[dict-item]


@pytest.mark.parametrize("text", ["{", "[1]", json.dumps("x")])
def test_refuses_json_that_is_no_architecture(text: str) -> None:
    with pytest.raises(SpaceError, match="is not"):
        Architecture.from_json(text)
