from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hwnas.core import Architecture, SpaceError
from hwnas.nn import Cell, Gate, InputChoice, LayerChoice, Repeat
from hwnas.nn.answering import answering
from hwnas.nn.choices import ChosenCell, ChosenInputs, freeze


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def gate(*values: float, support: tuple[int, ...] | None = None) -> Gate:
    return Gate(torch.tensor(values), support or tuple(range(len(values))))


def test_a_layer_choice_runs_what_is_chosen_and_mixes_what_a_gate_supports() -> None:
    choice, x = LayerChoice([Times(2.0), Times(10.0), Times(100.0)], label="c"), torch.tensor([1.0])
    with answering(Architecture({"c": 1})):
        assert choice(x).item() == 10
    with answering({"c": gate(0.5, 0.25, 0.25)}):
        assert choice(x).item() == 0.5 * 2 + 0.25 * 10 + 0.25 * 100
    with answering({"c": gate(0.5, 0.25, 0.25, support=(1,))}):
        choice(x).backward()
    assert [p.grad is None for p in choice.parameters()] == [True, False, True]
    assert len(choice) == 3


def test_a_layer_choice_passes_on_several_inputs() -> None:
    class Difference(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a - b

    with answering(Architecture({"c": "minus"})):
        assert LayerChoice({"minus": Difference()}, label="c")(torch.tensor(5.0), torch.tensor(2.0)).item() == 3


@pytest.mark.parametrize("names", [{"": nn.ReLU()}, {"a.b": nn.ReLU()}])
def test_candidates_have_names_that_a_module_can_have(names: dict[str, nn.Module]) -> None:
    with pytest.raises(SpaceError, match="names are not empty and hold no dot"):
        LayerChoice(names, label="c")


def test_a_choice_without_candidates_or_with_a_wrong_prior_is_refused() -> None:
    with pytest.raises(SpaceError, match="has no options"):
        LayerChoice({}, label="c")
    with pytest.raises(SpaceError, match=r"prior \[1.0\]; expected a finite number, 0 or more, for each of its 2"):
        LayerChoice([nn.ReLU(), nn.Tanh()], label="c", prior=[1])


def test_what_runs_outside_of_a_call_says_so() -> None:
    with pytest.raises(SpaceError, match="choice 'c' ran without gates") as raised:
        LayerChoice([nn.ReLU()], label="c")(torch.zeros(1))
    assert "net(x, architecture)" in raised.value.hint
    with answering(Architecture({"d": 0})), pytest.raises(SpaceError, match="do not say 'c', which runs; they say d"):
        LayerChoice([nn.ReLU()], label="c")(torch.zeros(1))


def test_two_threads_run_two_networks_of_one_module() -> None:
    choice, barrier = LayerChoice([Times(1.0), Times(2.0)], label="c"), threading.Barrier(2)
    found: dict[int, float] = {}

    def run(option: int) -> None:
        with answering(Architecture({"c": option})):
            barrier.wait(10)  # both are inside before either runs
            found[option] = choice(torch.tensor(3.0)).item()
            barrier.wait(10)

    threads = [threading.Thread(target=run, args=(option,)) for option in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == {0: 3.0, 1: 6.0}


# ------------------------------------------------------------------------------------------------------------ inputs

INPUTS = [torch.tensor([[1.0]]), torch.tensor([[10.0]]), torch.tensor([[100.0]])]


@pytest.mark.parametrize(
    ("chosen", "reduction", "options", "expected"),
    [
        (1, "sum", {"i": 2}, [[100.0]]),
        (2, "sum", {"i": "0+2"}, [[101.0]]),
        (2, "mean", {"i": "1+2"}, [[55.0]]),
        (2, "concat", {"i": "0+1"}, [[1.0, 10.0]]),
        (None, "sum", {"i.0": 1, "i.1": 0, "i.2": 1}, [[101.0]]),
        (None, "sum", {"i.0": 0, "i.1": 0, "i.2": 0}, [[0.0]]),
        (None, "mean", {"i.0": 1, "i.1": 1, "i.2": 1}, [[37.0]]),
    ],
)
def test_inputs_are_chosen_and_reduced(
    chosen: int | None, reduction: str, options: dict[str, int | str], expected: list[list[float]]
) -> None:
    choice = InputChoice(3, n_chosen=chosen, reduction=reduction, label="i")  # type: ignore[arg-type]
    with answering(Architecture(options)):
        assert choice(INPUTS).tolist() == expected
    assert freeze(choice, options)(INPUTS).tolist() == expected


def test_the_list_of_inputs_can_be_had_as_it_is() -> None:
    choice = InputChoice(3, n_chosen=2, reduction="none", label="i")
    with answering(Architecture({"i": "0+2"})):
        assert [tensor.item() for tensor in choice(INPUTS)] == [1, 100]


def test_soft_inputs_are_expectations() -> None:
    with answering({"i": gate(0.5, 0.25, 0.25)}):
        assert InputChoice(3, label="i")(INPUTS).item() == 0.5 + 2.5 + 25
    pairs = gate(0.5, 0.0, 0.5)  # 0+1, 0+2, 1+2
    with answering({"i": pairs}):
        assert InputChoice(3, n_chosen=2, reduction="mean", label="i")(INPUTS).item() == 0.5 * 5.5 + 0.5 * 55
    bits = {"i.0": gate(0.0, 1.0), "i.1": gate(0.5, 0.5), "i.2": gate(1.0, 0.0, support=(0,))}
    with answering(bits):
        assert InputChoice(3, n_chosen=None, label="i")(INPUTS).item() == 1 + 5


def test_soft_inputs_without_a_mean_are_refused() -> None:
    with answering({"i": gate(0.5, 0.5)}), pytest.raises(SpaceError, match="has no weighted form"):
        InputChoice(2, reduction="none", label="i")(INPUTS[:2])
    with (
        answering({"i.0": gate(0.5, 0.5), "i.1": gate(0.5, 0.5)}),
        pytest.raises(SpaceError, match="of a subset has no weighted form"),
    ):
        InputChoice(2, n_chosen=None, reduction="mean", label="i")(INPUTS[:2])


def test_wrong_numbers_of_inputs_are_named() -> None:
    with pytest.raises(SpaceError, match="n_chosen is 4 of 3"):
        InputChoice(3, n_chosen=4, label="i")
    with pytest.raises(SpaceError, match='reduction is "max"; expected one of sum, mean, concat, none'):
        InputChoice(3, reduction="max", label="i")  # type: ignore[arg-type]
    with answering(Architecture({"i": 0})), pytest.raises(SpaceError, match="got 2 tensors; expected 3"):
        InputChoice(3, label="i")(INPUTS[:2])


# ------------------------------------------------------------------------------------------------------------- depth


def test_a_repeat_runs_the_first_blocks_and_mixes_its_ends() -> None:
    repeat, x = Repeat([Times(2.0), Times(3.0), Times(5.0)], depths=(0, 1, 3), label="d"), torch.tensor(1.0)
    for depth, expected in ((0, 1), (1, 2), (3, 30)):
        with answering(Architecture({"d": depth})):
            assert repeat(x).item() == expected
        assert freeze(repeat, {"d": depth})(x).item() == expected
    with answering({"d": gate(0.5, 0.25, 0.25)}):
        assert repeat(x).item() == 0.5 + 0.5 + 7.5
    conditions = [[(c.label, c.options) for c in part.conditions] for part in repeat.parts]
    assert conditions == [[("d", (1, 3))], [("d", (3,))], [("d", (3,))]]


@pytest.mark.parametrize(
    ("blocks", "depths", "message"), [(2, (1, 3), "2 blocks for a depth of up to 3"), (2, (2, 1), "ascending")]
)
def test_a_repeat_that_does_not_fit_is_refused(blocks: int, depths: tuple[int, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Repeat([nn.ReLU() for _ in range(blocks)], depths=depths, label="d")


# -------------------------------------------------------------------------------------------------------------- cells


def cell(merge: str = "all") -> Cell:
    return Cell(
        {"double": lambda node, source: Times(2.0), "triple": lambda node, source: Times(3.0)},
        nodes=2,
        slots=2,
        inputs=1,
        merge="all" if merge == "all" else "loose_ends",
        label="c",
    )


def options_of(*pairs: tuple[int, str]) -> dict[str, int | str]:
    named: dict[str, int | str] = {}
    for n, (source, operation) in enumerate(pairs):
        where = f"c.node{n // 2 + 1}.slot{n % 2 + 1}"
        named |= {f"{where}.input": source, f"{where}.operation": operation}
    return named


def test_a_cell_adds_its_slots_and_concatenates_its_nodes() -> None:
    options = options_of((0, "double"), (0, "triple"), (0, "double"), (1, "triple"))
    x = torch.ones(1, 1)
    with answering(Architecture(options)):
        assert cell()([x]).tolist() == [[5.0, 17.0]]
        assert cell("loose")([x]).tolist() == [[17.0]]  # node 1 is read by node 2
    assert isinstance(freeze(cell(), options), ChosenCell)
    assert freeze(cell(), options)([x]).tolist() == [[5.0, 17.0]]
    assert freeze(cell("loose"), options)([x]).tolist() == [[17.0]]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["double", "triple"])), min_size=4, max_size=4))
def test_a_frozen_cell_computes_what_the_cell_does(drawn: list[tuple[int, str]]) -> None:
    pairs = [(source if n >= 2 else 0, operation) for n, (source, operation) in enumerate(drawn)]
    options, x = options_of(*pairs), torch.tensor([[1.5]])
    for merge in ("all", "loose"):
        whole = cell(merge)
        with answering(Architecture(options)):
            assert torch.equal(whole([x]), freeze(whole, options)([x]))


def test_soft_cells_are_the_expectation_of_a_linear_cell() -> None:
    # Every operation is linear and every decision is drawn on its own, so the soft value of a cell with one node is
    # the mean over its networks.
    small = Cell(
        {"double": lambda node, source: Times(2.0), "triple": lambda node, source: Times(3.0)},
        nodes=1,
        slots=1,
        inputs=2,
        label="c",
    )
    rng = np.random.default_rng(0)
    where, ops = rng.dirichlet(np.ones(2)), rng.dirichlet(np.ones(2))
    gates = {
        "c.node1.slot1.input": Gate(torch.tensor(where), (0, 1)),
        "c.node1.slot1.operation": Gate(torch.tensor(ops), (0, 1)),
    }
    x = [torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([[7.0]], dtype=torch.float64)]
    with answering(gates):
        found = small(x).item()
    expected = sum(p * value for p, value in zip(where, (1.0, 7.0), strict=True)) * (2 * ops[0] + 3 * ops[1])
    assert found == pytest.approx(expected, rel=1e-12)


def test_loose_ends_need_hard_inputs() -> None:
    gates = {decision.label: gate(1.0) for decision in cell("loose").decisions}
    gates |= {label.replace("input", "operation"): gate(0.5, 0.5) for label in gates}
    gates |= {f"c.node2.slot{n}.input": gate(0.5, 0.5) for n in (1, 2)}
    with answering(gates), pytest.raises(SpaceError, match="which nodes are loose ends is not decided"):
        cell("loose")([torch.ones(1, 1)])


def test_wrong_cells_are_refused() -> None:
    with pytest.raises(SpaceError, match="nodes is 0"):
        Cell({"skip": lambda node, source: nn.Identity()}, nodes=0, label="c")
    with pytest.raises(SpaceError, match='merge is "some"'):
        Cell({"skip": lambda node, source: nn.Identity()}, nodes=1, merge="some", label="c")  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match="got 2 tensors; expected 1"):
        cell()([torch.ones(1, 1)] * 2)


# ----------------------------------------------------------------------------------------------------------- freezing


def test_shared_modules_stay_shared_and_copies_are_their_own() -> None:
    shared = Times(2.0)
    net = nn.ModuleList([LayerChoice({"a": shared, "b": Times(3.0)}, label="x"), nn.Sequential(shared)])
    frozen = freeze(net, {"x": "a"})
    first, second = list(frozen.children())
    assert first is next(second.children())
    assert first is not shared
    with torch.no_grad():
        first.factor.fill_(9.0)  # type: ignore[operator]
    assert shared.factor.item() == 2.0


def test_an_option_that_is_not_said_is_named() -> None:
    with pytest.raises(SpaceError, match="does not say 'x'"):
        freeze(nn.Sequential(LayerChoice([nn.ReLU()], label="x")), {})


def test_what_is_left_of_an_input_choice_prints_itself() -> None:
    assert repr(ChosenInputs((0, 2), "mean")) == "ChosenInputs([0, 2], mean)"
