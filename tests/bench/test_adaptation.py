"""NAT with and without adaptation, on the toy recipe: what is trained longer, and what the rows hold."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwnas.job import Front, assemble
from hwnas.strategies import Nat
from tests.bench.adaptation import ADAPTED, adaptation, adapted_epochs
from tests.bench.figures import MissingDataError
from tests.job.workspace import RECIPE, ignore_drift, make_workspace


@pytest.fixture(scope="module", autouse=True)
def any_drift() -> Iterator[None]:
    yield from ignore_drift()


@pytest.mark.slow
def test_three_sides_differ_by_adaptation_and_by_epochs(tmp_path: Path) -> None:
    text = RECIPE.replace(
        'name = "nsga2"\npopulation = 6', 'name = "nat"\ninitial = 6\nper_iteration = 3\nadapt_epochs = 1'
    )
    assert text != RECIPE
    recipe = make_workspace(tmp_path)
    recipe.write_text(text)
    measured = adaptation(tmp_path, recipe=recipe, root=tmp_path, seeds=(0,))
    rows = {row.figure: row for row in measured.rows}
    fronts = [Front.load(tmp_path / "runs" / f"toy_{n}_seed0") for n in range(3)]
    recipes = [assemble(tmp_path / "runs" / "recipes" / f"toy_{n}_seed0.toml", root=tmp_path).recipe for n in range(3)]
    assert [recipe.training.epochs for recipe in recipes] == [2, 2, 4], "two iterations of one epoch"
    assert [recipe.strategy["adapt_epochs"] for recipe in recipes] == [1, 0, 0]
    members = [m for m in fronts[0].members if m.role == "member"]
    inherited = sum(m.predicted["accuracy"].value for m in members) / len(members)
    figure = "accuracy with the supernet's weights, mean of the members, mean"
    assert rows[f"{ADAPTED}: {figure}"].value == pytest.approx(inherited)
    sides = {row.figure.partition(": ")[0]: row.value for row in rows.values() if row.figure.endswith(figure)}
    assert sides["adapted minus not adapted"] == pytest.approx(sides[ADAPTED] - sides["not adapted"])
    assert {row.contender for row in rows.values()} == {"ours", "null"} and not any(row.judged for row in rows.values())


@pytest.mark.parametrize(
    ("nat", "evaluations", "epochs"), [(Nat(initial=24, adapt_epochs=5), 48, 15), (Nat(adapt_epochs=2), 100, 14)]
)
def test_epochs_of_all_adaptations(nat: Nat, evaluations: int, epochs: int) -> None:
    """With a budget below twice `initial`, the first archive takes half of it: 50, then seven iterations of 8."""
    assert adapted_epochs(nat, evaluations) == epochs


def test_a_strategy_that_does_not_adapt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="adapt_epochs is 0"):
        adapted_epochs(Nat(adapt_epochs=0), 200)
    with pytest.raises(MissingDataError, match="the budget has no evaluations"):
        adapted_epochs(Nat(adapt_epochs=5), None)
    with pytest.raises(MissingDataError, match="its strategy is Nsga2; expected Nat"):
        adaptation(tmp_path, recipe=make_workspace(tmp_path), root=tmp_path)
