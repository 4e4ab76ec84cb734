"""Recipes: what is wrong is named by file, table, key and value, with the way out."""

from pathlib import Path

import pytest

from hwnas.core import Limit, RecipeError
from hwnas.job import Recipe
from hwnas.job.recipe import LimitTable, limit_of
from hwnas.job.tabular import is_tabular

RECIPES = sorted((Path(__file__).parents[2] / "search").glob("*.toml"))
PATH = Path("search/phone.toml")
GOOD = """
[space]
name = "toy"
[data]
source = "digits"
[strategy]
name = "random"
[budget]
evaluations = 20
"""


def test_every_recipe_of_the_repository_is_right() -> None:
    assert {path.stem for path in RECIPES} >= {"quickstart", "fashion_mnist"}
    for path in RECIPES:
        if is_tabular(path):  # tests/job/test_tabular.py has those
            continue
        recipe = Recipe.load(path)
        assert recipe.name == path.stem
        assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_a_short_recipe_has_sensible_defaults() -> None:
    recipe = Recipe.from_toml(GOOD, PATH)
    assert recipe.name == "phone"
    assert (recipe.seed, recipe.device, recipe.objectives) == (0, "this-cpu", ("accuracy", "latency_ms"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "evaluations = 20",
            "evalutions = 20",
            r'\[budget\] unknown key "evalutions" = 20; did you mean "evaluations"',
        ),
        ("evaluations = 20", "evaluations = -5", r"\[budget\] evaluations is -5; input should be greater than"),
        ("evaluations = 20", "evaluations = 'many'", r"\[budget\] evaluations is 'many'; input should be a valid int"),
        (
            "evaluations = 20",
            "evaluations = 20\n[training]\nbatch_size = 1",
            r"\[training\] batch_size is 1; batch norm learns from 2 images or more",
        ),
        (
            "evaluations = 20",
            "evaluations = 20\n[members]\nbatch_size = 1",
            r"\[members\] batch_size is 1; batch norm learns from 2",
        ),
        (
            "evaluations = 20",
            "evaluations = 20\n[evaluation]\nbatch_norm_images = 1",
            r"\[evaluation\] batch_norm_images is 1; batch norm learns from 2",
        ),
        (
            "evaluations = 20",
            "evaluations = 20\n[evaluation]\nseconds = 0",
            r"\[evaluation\] seconds is 0; input should be greater than 0",
        ),
        (
            'source = "digits"',
            'source = "digits"\nvalidation = 1.0',
            r"\[data\] validation is 1.0; it is a share of the images, above 0 and below 1",
        ),
        (
            'source = "digits"',
            'source = "digits"\nvalidation = 0.5\ntest = 0.6',
            r"\[data\] validation \+ test is 1.1; nothing is left to train on",
        ),
        (
            'name = "toy"',
            'name = "toy"\nresolutions = [100000]',
            r"\[space\] resolutions holds 100000; expected at most 4096 pixels, as one RGB image takes 120.0 GB",
        ),
        ("evaluations = 20", "", r"\[budget\] give evaluations, minutes or both"),
        ('name = "toy"', 'name = "toi"', r'\[space\] name is "toi"; did you mean "toy"'),
        ('name = "toy"', "", r"\[space\] name is missing; known: .*toy"),
        (
            'name = "toy"',
            'name = "toy"\nkernal = [3]',
            r'\[space\] unknown key "kernal" = \[3\]; did you mean "kernels"',
        ),
        ('name = "toy"', 'name = "toy"\nkernels = [3, "five"]', r"\[space\] kernels.1 is 'five'"),
        ('name = "toy"', 'name = "toy"\nactivations = ["relu", "x"]', r'\[space\] activation "x" is unknown'),
        ('name = "random"', 'name = "rondom"', r'\[strategy\] "rondom" is unknown; did you mean "random"'),
        (
            'name = "random"',
            'name = "nsga2"\npopulaton = 9',
            r'has no parameter "populaton"; did you mean "population"',
        ),
        ('source = "digits"', 'source = "digit"', r'\[data\] source is "digit"; did you mean "digits"'),
        ('source = "digits"', 'source = "image_folder"', r"\[data\] path is missing"),
        ("[budget]", "[bugdet]\nx=1\n[budget]", r'unknown key "bugdet" = .*; did you mean "budget"'),
        (
            "[budget]",
            "[limits]\nlatncy_ms = {at_most = 1}\n[budget]",
            r'\[limits.latncy_ms\] .*did you mean "latency_ms"',
        ),
        ("[budget]", "[limits]\nlatency_ms = {at_mst = 1}\n[budget]", r'\[limits.latency_ms\] unknown key "at_mst"'),
        ("[budget]", '[limits]\nlatency_ms = {at_most = "fast"}\n[budget]', r'at_most is "fast"; expected a number'),
        ("[budget]", "[training]\nepochs = 0\n[budget]", r"\[training\] epochs is 0"),
        ("[budget]", "[training]\nlearning_rate = nan\n[budget]", r"\[training\] learning_rate is nan"),
        (
            "[budget]",
            "[training]\nprogressive = ['kernl']\n[budget]",
            r'\[training\] progressive: "kernl" is no kind of .*did you mean "kernel"',
        ),
        (
            "[budget]",
            "[training]\ndraw = 'fair'\n[budget]",
            r'\[training\] draw = "fair" goes with rule = "single_path"',
        ),
        (
            "[budget]",
            "[training]\nteacher_epochs = 3\n[budget]",
            r'\[training\] teacher_epochs = 3 goes with rule = "block_wise"; the rule here is "sandwich"',
        ),
        (
            "[budget]",
            "[training]\nrule = 'block_wise'\nrandom_networks = 0\n[budget]",
            r"\[training\] random_networks is 0; the block_wise rule trains nothing else",
        ),
        ("[budget]", "[members]\nwarmup = 1.0\n[budget]", r"\[members\] warmup is 1.0"),
        ("[space]", "objectives = ['accuracy', 'latency']\n[space]", r'metric "latency" is unknown; did you mean'),
        (
            "[space]",
            "[limits.acuracy]\nat_least = 0.5\n[space]",
            r'\[limits.acuracy\] metric "acuracy" is unknown; did you mean "accuracy"',
        ),
        (
            "[space]",
            "[limits.'latencyms@pi4']\nat_most = 2\n[space]",
            r'metric "latencyms@pi4" is unknown; did you mean "latency_ms@pi4"',
        ),
        ("[space]", "objectives = ['accuracy', 'latencyms@pi4']\n[space]", r'did you mean "latency_ms@pi4"'),
        ("[space]", "name = 'a/b'\n[space]", r"name is \"a/b\"; it holds '/'"),
        ("[space]", "name = '..'\n[space]", r'name is ".."; it begins with a dot'),
        ("[space]", "name = '.hidden'\n[space]", r'name is ".hidden"; it begins with a dot'),
        ("[space]", "name = '-rf'\n[space]", r'name is "-rf"; it begins with a dash'),
        ("[space]", 'name = "a\\u0007"\n[space]', r"name is 'a.x07'; it holds '.x07'"),
        ("[space]", "name = 'NUL'\n[space]", r'name is "NUL"; some systems reserve it'),
        ("[space]", f"name = '{'a' * 101}'\n[space]", r"it has 101 bytes, more than 100"),
        ("[space]", "seed = -1\n[space]", r"seed is -1; expected a whole number from 0 to 9223372036854775807"),
        ("[space]", f"seed = {2**70}\n[space]", rf"seed is {2**70}; expected a whole number from"),
        (
            "[space]",
            f"seed = {-(2**70)}\n[space]",
            r"seed is -\d+; expected a whole number from 0 to 9223372036854775807",
        ),
        (
            "[budget]",
            f"[training]\nepochs = {2**70}\n[budget]",
            r"epochs is \d+; input should be less than or equal to 9",
        ),
        ("[budget]", f"[members]\nepochs = {10**400}\n[budget]", r"\[members\] epochs is 1000"),
        ("[budget]", f"[training]\nclip = {10**400}\n[budget]", r"\[training\] clip is 1000"),
        (
            'name = "toy"',
            f'name = "toy"\nhead_width = {2**70}',
            r"\[space\] head_width is \d+; expected a number of at most",
        ),
        ("[budget]", "[training]\nthreads = 1000000\n[budget]", r"\[training\] threads is 1000000; .* equal to 1024"),
        ("[budget]", "[evaluation]\nthreads = 1025\n[budget]", r"\[evaluation\] threads is 1025; .* equal to 1024"),
        ("[budget]", "[evaluation]\nworkers = 1025\n[budget]", r"\[evaluation\] workers is 1025; .* equal to 1024"),
        ("[space]", f"seed = {'9' * 5000}\n[space]", r"not TOML that can be read: a number has thousands of digits"),
        ("[space]", "seed = true\n[space]", r"seed is True; expected a number, not true or false"),
        ("[budget]", "[training]\nclip = inf\n[budget]", r"\[training\] clip is inf; expected a finite number"),
        ("[budget]", "[training]\nepochs = true\n[budget]", r"\[training\] epochs is True; expected a number, not"),
        ("[budget]", "[limits]\naccuracy = {at_least = true}\n[budget]", r"\[limits.accuracy\] at_least is True; exp"),
        ("[budget]", "[limits]\naccuracy = {at_least = nan}\n[budget]", r"\[limits.accuracy\] at_least is nan; expec"),
        (
            "[budget]",
            "[limits]\naccuracy = {at_least = 90}\n[budget]",
            r'\[limits.accuracy\] at_least is 90; accuracy is a share from 0 to 1: did you mean 0.9, or "90 %"\?',
        ),
        (
            "[budget]",
            "[limits]\nerror = {at_most = 110}\n[budget]",
            r"\[limits.error\] at_most is 110; error is a share from 0 to 1$",
        ),
        (
            "[budget]",
            "[limits]\nlatency_ms = {at_most = 0}\n[budget]",
            r"\[limits.latency_ms\] at_most is 0; expected a number of ms above 0",
        ),
        (
            "[budget]",
            "[limits]\n'latency_ms@pi4' = {at_most = -1}\n[budget]",
            r"\[limits.latency_ms@pi4\] at_most is -1; expected a number of ms above 0",
        ),
        ('name = "toy"', 'name = "toy"\nkernels = [true]', r"\[space\] kernels is \[True\]; expected no true or false"),
        ('name = "toy"', 'name = "toy"\nhead_width = inf', r"\[space\] head_width is inf; expected a finite number"),
        (
            'name = "random"',
            'name = "nsga2"\npopulation = true',
            r"population is True; input should be a valid integer",
        ),
        ("[space]", "[space", r"not TOML: .*line"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, message: str) -> None:
    """Case O-06 and the issue's misspelt key and unknown space."""
    with pytest.raises(RecipeError, match=rf"^search/phone.toml: .*{message}"):
        Recipe.from_toml(GOOD.replace(old, new, 1), PATH)


def test_a_missing_recipe_lists_those_that_are_there() -> None:
    with pytest.raises(RecipeError, match=r"quickstrt.toml: no such recipe") as caught:
        Recipe.load(RECIPES[0].with_name("quickstrt.toml"))
    assert "quickstart.toml" in caught.value.hint


def test_limits_in_units_or_as_a_share() -> None:
    assert limit_of("latency_ms", LimitTable(at_most=0.5), largest=lambda: 9.0) == Limit("latency_ms", at_most=0.5)
    assert limit_of("latency_ms", LimitTable(at_most="50%"), largest=lambda: 9.0) == Limit("latency_ms", at_most=4.5)
    assert limit_of("accuracy", LimitTable(at_least=0.9), largest=lambda: 1.0) == Limit("accuracy", at_least=0.9)
    assert limit_of("accuracy", LimitTable(at_least="90 %"), largest=lambda: 0.5) == Limit("accuracy", at_least=0.9)
    assert limit_of("error", LimitTable(at_most="5%"), largest=lambda: 9.0) == Limit("error", at_most=0.05)
    for text in ("0 %", "101 %", "5 ms", "-5 %"):
        with pytest.raises(RecipeError, match=f'at_most is "{text}"'):
            limit_of("latency_ms", LimitTable(at_most=text), largest=lambda: 9.0)


def test_a_recipe_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "phone.toml"
    path.write_text(GOOD, encoding="utf-8-sig")
    assert Recipe.load(path) == Recipe.from_toml(GOOD, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD.encode("utf-16"), "is in UTF-16; expected a recipe in UTF-8"),
        (GOOD.encode("utf-16-le"), "is in UTF-16 or no text at all; expected a recipe in UTF-8"),
        (
            f"# caf\u00e9\n{GOOD}".encode("latin-1"),
            r"is in another encoding, perhaps Latin-1 or Windows-1252 \(byte 0xE9 in line 1\); expected",
        ),
    ],
)
def test_another_encoding_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "phone.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=f"phone.toml: {message}") as caught:
        Recipe.load(path)
    assert "save it as UTF-8" in caught.value.hint
    assert not is_tabular(path), "and the command goes on to say so"


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is a folder; expected a recipe"):
        Recipe.load(tmp_path)


def test_per_cent_of_a_metric_of_ones_own_has_no_meaning(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def size(architecture, network):\n    return 1.0\n")
    own = f"[metrics.size]\nfunction = '{tmp_path / 'own.py'}:size'\n[limits.size]\nat_most = '50 %'\n"
    with pytest.raises(RecipeError, match=r"\[limits.size\] the largest value of a metric of your own is not known"):
        Recipe.from_toml(GOOD + own, PATH)
