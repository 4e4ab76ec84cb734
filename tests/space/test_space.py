import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.core import Architecture, SpaceError
from hwnas.space import Block, Condition, Decision, Space, Unit
from tests.cost.random_space import random_spaces


def chain(stages: int = 2, depths: tuple[int, ...] = (1, 2)) -> Space:
    decisions = []
    for s in range(stages):
        decisions.append(Decision(f"s{s}.depth", depths))
        for b in range(max(depths)):
            deep = tuple(d for d in depths if d > b)
            active = ((Condition(f"s{s}.depth", deep),),) if len(deep) < len(depths) else ()
            decisions.append(Decision(f"s{s}.b{b}.kernel", (3, 5), active))
    return Space("chain", tuple(decisions))


def shared() -> Space:
    """`width` counts if either cell asks for it; `inner` hangs on a decision that can itself be inactive."""
    either = ((Condition("left", ("conv",)),), (Condition("right", ("conv",)),))
    return Space(
        "shared",
        (
            Decision("left", ("skip", "conv")),
            Decision("right", ("skip", "conv")),
            Decision("width", (8, 16, 32), either),
            Decision("inner", (1, 2), ((Condition("width", (16, 32)), Condition("left", ("conv",))),)),
        ),
    )


SPACES = [chain(), shared(), chain(1, (2, 3, 4)), Space("one", (Decision("k", (3,)),))]
spaces = st.sampled_from(SPACES)


@pytest.mark.parametrize("space", SPACES, ids=lambda s: s.name)
def test_size_is_what_listing_counts(space: Space) -> None:
    listed = list(space.enumerate())
    assert space.size == len(listed) == len(set(listed))
    ranges = [d.options for d in space.decisions]
    labels = [d.label for d in space.decisions]
    brute = {space.canonical(dict(zip(labels, row, strict=True))) for row in itertools.product(*ranges)}
    assert brute == set(listed)


def test_size_of_a_large_space_needs_no_listing() -> None:
    assert chain(5, (2, 3, 4)).size == (2**2 + 2**3 + 2**4) ** 5


@given(spaces, st.integers(0, 2**32))
def test_codes_and_architectures_round_trip(space: Space, seed: int) -> None:
    codes = space.sample_codes(20, np.random.default_rng(seed))
    architectures = space.decode(codes)
    assert np.array_equal(space.encode(architectures), codes)
    assert all(space.contains(a) for a in architectures)
    assert np.array_equal(space.canonical_codes(np.maximum(codes, 0)), codes)


@given(spaces, st.integers(0, 2**32))
def test_inactive_genes_do_not_matter(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    options = np.array([len(d.options) for d in space.decisions])
    genotypes = rng.integers(0, options, size=(20, len(options)))
    codes = space.canonical_codes(genotypes)
    noise = rng.integers(0, options, size=genotypes.shape)
    assert np.array_equal(space.canonical_codes(np.where(codes < 0, noise, genotypes)), codes)


@given(spaces, st.integers(0, 2**32))
def test_mutation_changes_the_network(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    [parent] = space.sample(1, rng)
    if space.size == 1:
        with pytest.raises(SpaceError, match="no other network"):
            space.mutate(parent, rng)
        return
    child = space.mutate(parent, rng)
    assert child != parent
    assert space.contains(child)


@given(spaces, st.integers(0, 2**32))
def test_crossover_takes_from_the_parents(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = space.sample(2, rng)
    child = space.cross(a, b, rng)
    assert space.contains(child)
    for label, option in child.items():
        if label in a or label in b:
            assert option in (a.get(label), b.get(label))


@given(spaces, st.integers(0, 2**32))
def test_neighbours_are_one_decision_away(space: Space, seed: int) -> None:
    [a] = space.sample(1, np.random.default_rng(seed))
    expected = sum(len(d.options) - 1 for d in space.decisions if d.label in a)
    found = space.neighbours(a)
    assert len(found) == expected == len(set(found))
    for b in found:
        changed = [label for label in a if label in b and a[label] != b[label]]
        assert len(changed) == 1


@settings(max_examples=20)
@given(spaces)
def test_one_hot_has_one_per_active_decision(space: Space) -> None:
    codes = space.sample_codes(10, np.random.default_rng(0))
    matrix = space.one_hot(codes)
    assert matrix.shape == (10, sum(len(d.options) for d in space.decisions))
    assert np.array_equal(matrix.sum(axis=1), (codes >= 0).sum(axis=1))


def test_the_draws_of_one_network_do_not_depend_on_another() -> None:
    space = chain()
    few = space.sample_codes(3, np.random.default_rng(5))
    many = space.sample_codes(6, np.random.default_rng(5))
    assert np.array_equal(few, many[:3])


def test_sampling_is_uniform_over_options() -> None:
    codes = chain().sample_codes(8000, np.random.default_rng(0))
    share = (codes[:, 0] == 0).mean()
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 8000)


def test_equal_spaces_share_a_digest_and_different_ones_do_not() -> None:
    assert chain().digest == chain().digest
    assert len({space.digest for space in SPACES}) == len(SPACES)


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        ((Decision("k", (3,)), Decision("k", (5,))), "'k' is declared twice"),
        ((Decision("k", (3,), ((Condition("dept", (1,)),),)), Decision("depth", (1,))), r'did you mean "depth"'),
        ((Decision("d", (1, 2)), Decision("k", (3,), ((Condition("d", (4,)),),))), "is 4, which is not one of"),
        (
            (Decision("a", (1,), ((Condition("b", (1,)),),)), Decision("b", (1,), ((Condition("a", (1,)),),))),
            r"circle among \['a', 'b'\]",
        ),
    ],
)
def test_impossible_declarations_are_refused(decisions: tuple[Decision, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Space("bad", decisions)


def test_impossible_decisions_are_refused() -> None:
    with pytest.raises(SpaceError, match="no options"):
        Decision("k", ())
    with pytest.raises(SpaceError, match="lists an option twice"):
        Decision("k", (3, 3))
    with pytest.raises(SpaceError, match="empty label"):
        Decision("", (3,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"s0.depth": 7}, r"'s0.depth' has no option 7; options: 1, 2"),
        ({"s0.dept": 1}, 'did you mean "s0.depth"'),
        ({"s0.depth": 1, "s0.b0.kernel": 3}, "does not say 's1.depth'"),
        ({"s0.depth": "1"}, "has no option '1'"),
    ],
)
def test_architectures_that_do_not_fit_are_named(options: dict[str, int | str], message: str) -> None:
    with pytest.raises(SpaceError, match=message) if "s1" not in message else pytest.raises(SpaceError):
        chain().canonical(options)


def test_encode_refuses_inactive_genes_and_gaps() -> None:
    space = chain(1)
    with pytest.raises(SpaceError, match=r"'s0.b1.kernel' is given but inactive"):
        space.encode([Architecture({"s0.depth": 1, "s0.b0.kernel": 3, "s0.b1.kernel": 5})])
    with pytest.raises(SpaceError, match=r"'s0.b1.kernel' is active but not given"):
        space.encode([Architecture({"s0.depth": 2, "s0.b0.kernel": 3})])


def block(kernel: int) -> Block:
    return Block("conv", (("kernel", kernel),), (8, 4, 4), (8, 4, 4), macs=128 * kernel**2, parameters=8 * kernel**2)


def with_units(*units: Unit) -> Space:
    base = chain(1)
    return Space("units", base.decisions, units)


def test_blocks_of_a_network_come_in_the_order_of_the_units() -> None:
    first = Unit("b0", ("s0.b0.kernel",), (block(3), block(5)))
    second = Unit("b1", ("s0.depth", "s0.b1.kernel"), (None, None, block(3), block(5)))
    space = with_units(first, second)
    deep = Architecture({"s0.depth": 2, "s0.b0.kernel": 5, "s0.b1.kernel": 3})
    flat = Architecture({"s0.depth": 1, "s0.b0.kernel": 5})
    assert space.blocks_of(deep) == [block(5), block(3)]
    assert space.blocks_of(flat) == [block(5)]
    assert space.entries_digest != with_units(first).entries_digest


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (Unit("b1", ("s0.b1.kernel",), (block(3), block(5))), "'s0.depth' can deactivate"),
        (Unit("b0", ("s0.b0.kernel",), (block(3),)), "has 1 blocks .* expected 2"),
        (Unit("b0", ("kernel",), (block(3), block(5))), "'kernel', which is no decision"),
        (Unit("b0", ("s0.depth", "s0.depth"), (None,) * 4), "each label once"),
    ],
)
def test_units_that_do_not_fit_are_refused(unit: Unit, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        with_units(unit)


def test_blocks_know_their_features() -> None:
    b = block(3)
    assert [b.feature(name) for name in ("blocks", "boundary", "se", "residual", "macs")] == [1, 256, 0, 0, 1152]
    with pytest.raises(SpaceError, match="unknown feature 'flops'"):
        b.feature("flops")
    with pytest.raises(SpaceError, match="has no setting 'stride'"):
        b.setting("stride")


def test_options_are_drawn_as_often_as_is_said() -> None:
    space = Space(
        "two",
        (Decision("k", (3, 5, 7)), Decision("deep", (0, 1)), Decision("w", (1, 2), ((Condition("deep", (1,)),),))),
    )
    shares = {"k": [0.5, 0.5, 0.0], "deep": [0.25, 0.75], "w": [0.1, 0.9]}
    drawn = space.sample_by(shares, 4000, np.random.default_rng(0))
    assert all(space.contains(one) for one in drawn)
    assert {one["k"] for one in drawn} == {3, 5}
    deep = [one for one in drawn if one["deep"]]
    for found, share, n in (
        (sum(one["k"] == 3 for one in drawn), 0.5, 4000),
        (len(deep), 0.75, 4000),
        (sum(one["w"] == 2 for one in deep), 0.9, len(deep)),
    ):
        assert abs(found / n - share) < 4 * (share * (1 - share) / n) ** 0.5
    again = space.sample_by(shares, 4000, np.random.default_rng(0))
    assert again == drawn


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.6], [1.5, -0.5], [0.5, float("nan")], None])
def test_shares_that_are_no_distribution_are_refused(shares: list[float] | None) -> None:
    space = Space("tiny", (Decision("k", (3, 5)),))
    with pytest.raises(SpaceError, match="space tiny: the shares of 'k' are"):
        space.sample_by({} if shares is None else {"k": shares}, 1, np.random.default_rng(0))


@given(random_spaces())
def test_size_of_random_spaces_is_what_listing_counts(space: Space) -> None:
    assert space.size == len(list(space.enumerate()))


def test_size_of_a_long_chain_of_conditions() -> None:
    """Each decision is active only if the last one goes on: 2 + 2 * (2 + 2 * ...) without listing 4^60 parents."""
    decisions = [Decision("step0", ("stop", "halt", "a", "b"))]
    for n in range(1, 60):
        on = ((Condition(f"step{n - 1}", ("a", "b")),),)
        decisions.append(Decision(f"step{n}", ("stop", "halt", "a", "b"), on))
        decisions.append(Decision(f"kernel{n}", (1, 3, 5), ((Condition(f"step{n}", ("a", "b")),),)))
    expected = 2 + 2 * 3  # the last step
    for n in range(58, -1, -1):
        expected = 2 + 2 * (3 if n else 1) * expected
    assert Space("long", tuple(decisions)).size == expected
