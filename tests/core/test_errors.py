import pytest

from hwnas.core import BudgetSpent, HwnasError, PickError, SpaceError
from hwnas.core.errors import did_you_mean


def test_the_hint_is_a_field_of_its_own() -> None:
    error = SpaceError("space a: no decision 'x'", hint="hwnas spaces")
    assert (error.message, error.hint) == ("space a: no decision 'x'", "hwnas spaces")
    assert str(error) == "space a: no decision 'x' (hwnas spaces)"
    assert isinstance(error, HwnasError)
    assert isinstance(PickError("x"), ValueError)


def test_the_end_of_a_budget_is_not_swallowed_by_a_handler_of_errors() -> None:
    def search() -> None:
        try:
            raise BudgetSpent("200 evaluations")
        except Exception as error:
            raise AssertionError from error

    with pytest.raises(BudgetSpent, match="200 evaluations"):
        search()


def test_did_you_mean_lists_all_when_nothing_is_near() -> None:
    assert did_you_mean("kernal", ["kernels", "depths"]) == 'did you mean "kernels"?'
    assert did_you_mean("zzz", ["b", "a"]) == "known: a, b"
