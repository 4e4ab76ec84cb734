import json
from pathlib import Path

import numpy as np
import pytest

import hwnas
from hwnas.core import DataError, LimitError, RecipeError, ReplayError, StoreError
from hwnas.evaluation.benchmarks import nasbench201
from hwnas.job import Front, Recipe, TabularFront, TabularRecipe, is_tabular, search_table
from tests.evaluation.tables import write_macro, write_mbv3_45, write_nasbench201
from tests.job.workspace import REPOSITORY, Listener, run

PI5 = """
objectives = ["accuracy", "latency_ms@pi5_onnx", "energy_mj@pi5_onnx"]
seed = 2
[benchmark]
name = "nasbench201"
dataset = "cifar100"
[strategy]
name = "nsga3"
population = 10
[budget]
evaluations = 40
"""
PATH = Path("search/table.toml")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_nasbench201(folder)
    write_macro(folder)
    write_mbv3_45(folder)
    return folder


@pytest.fixture
def workspace(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HWNAS_BENCH_DATA", str(tables))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe(text: str, folder: Path) -> Path:
    (folder / "search").mkdir(exist_ok=True)
    path = folder / PATH
    path.write_text(text)
    return path


def test_what_is_found_is_judged_by_the_true_front(workspace: Path, tables: Path) -> None:
    listener = Listener()
    found = search_table(recipe(PI5, workspace), root=workspace, teller=listener)
    assert listener.stages == ["search NAS-Bench-201, cifar100, accuracy after 200 epochs with nsga3"]
    assert found.evaluations == 40 and 0 < found.share <= 1 and 0 < found.reported_share <= 1
    benchmark = nasbench201(tables, dataset="cifar100")
    assert found.true_front == len(benchmark.true_front(found.objectives)[0])
    for member in found.members:
        assert member.metrics["connected"] == 1.0
        assert member.metrics["accuracy"] == benchmark.columns["accuracy"](member.architecture).value
        assert member.reported == {"test_accuracy": benchmark.reported["test_accuracy"](member.architecture).value}
    saved = json.loads((workspace / "runs" / "table" / "tabular.json").read_text())
    assert saved["hypervolume_share"] == found.share and len(saved["members"]) == len(found.members)


def test_a_search_of_the_whole_space_finds_the_whole_front(workspace: Path) -> None:
    text = """
    objectives = ["accuracy", "macs"]
    benchmark = {name = "nas_bench_macro"}
    limits = {macs = {at_most = 3e6}}
    strategy = {name = "random"}
    budget = {evaluations = 10000}
    in_flight = 100
    """
    found = search_table(recipe(text, workspace), root=workspace)
    assert found.share == pytest.approx(1.0) and found.evaluations < 200
    assert max(member.metrics["macs"] for member in found.members) <= 3e6


def test_a_finished_run_says_the_same_again_and_fresh_starts_over(workspace: Path) -> None:
    path = recipe(PI5, workspace)
    first = search_table(path, root=workspace)
    assert search_table(path, root=workspace).members == first.members
    path.write_text(PI5.replace("seed = 2", "seed = 3"))
    with pytest.raises(StoreError, match="seed"):
        search_table(path, root=workspace)
    assert search_table(path, root=workspace, fresh=True).members != first.members


OWN = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    at_once: int = 3

    def search(self, study):
        while True:
            study.evaluate(study.sample(self.at_once))
"""


def test_a_strategy_of_the_user_s_own_searches_a_table(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.py").write_text(OWN)
    own = recipe(PI5.replace('name = "nsga3"\npopulation = 10', 'name = "mine.py:Mine"\nat_once = 5'), workspace)
    with monkeypatch.context() as patched:
        patched.setattr("hwnas.job.tabular.Study.run", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            search_table(own)
    Path("mine.py").write_text(OWN.replace("from data", "NUMBER = 1\nfrom data"))
    with pytest.raises(ReplayError, match="it holds another study: the file of the strategy was changed since"):
        search_table(own)
    Path("mine.py").write_text(OWN)
    front = search_table(own)
    assert front.evaluations == 40 and front.facts["strategy"] == {"name": "mine.py:Mine", "at_once": 5}
    Path("mine.py").write_text(OWN.replace("from data", "NUMBER = 1\nfrom data"))
    assert search_table(own).members == front.members, "a finished search is not run again"


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_another_strategy_leaves_the_run_as_it_was(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under other conditions too, which a run that goes on would note."""
    path = recipe(PI5, workspace)
    search_table(path, root=workspace)
    path.write_text(PI5.replace("population = 10", "population = 20"))
    monkeypatch.setattr("hwnas.study.study.environment", lambda: {"numpy": "0.1"})
    before = {p: p.read_bytes() for p in sorted((workspace / "runs").rglob("*")) if p.is_file()}
    with pytest.raises(ReplayError, match="population 10 stored, 20 now"):
        search_table(path, root=workspace)
    assert {p: p.read_bytes() for p in sorted((workspace / "runs").rglob("*")) if p.is_file()} == before


def test_scores_are_bought_and_told(workspace: Path) -> None:
    text = """
    objectives = ["accuracy", "latency_ms@pi5_onnx"]
    scores = ["accuracy@12_epochs"]
    benchmark = {name = "nasbench201"}
    strategy = {name = "bayesian", initial = 4, initial_scores = 5}
    budget = {evaluations = 8}
    """
    found = search_table(recipe(text, workspace), root=workspace)
    [note] = [note for note in found.facts["notes"] if "accuracy@12_epochs" in note]
    scores = int(note.split()[0])
    assert scores >= found.evaluations and 7 < found.evaluations + 0.06 * scores <= 8
    sold_twice = text.replace("scores = [", 'known = ["accuracy@12_epochs"]\n    scores = [')
    with pytest.raises(RecipeError, match="none that is an objective, known or limited"):
        search_table(recipe(sold_twice, workspace), root=workspace)
    with pytest.raises(DataError, match='no score "parameters" with a price; it has accuracy@12_epochs'):
        search_table(recipe(text.replace("accuracy@12_epochs", "parameters"), workspace), root=workspace)


def test_limits_may_be_shares_of_the_largest(workspace: Path) -> None:
    text = """
    benchmark = {name = "mbv3_45"}
    limits = {macs = {at_most = "60 %"}}
    strategy = {name = "nsga2"}
    budget = {evaluations = 60}
    """
    found = search_table(recipe(text, workspace), root=workspace)
    assert 0 < found.share < 1 and found.share == found.reported_share
    with pytest.raises(LimitError, match="macs"):
        search_table(recipe(text.replace('"60 %"', "1.0"), workspace), root=workspace, fresh=True)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "seed = 2",
            'seed = 2\n[limits."latency_ms@pi5_onx"]\nat_most = 9.0',
            r'\[limits.latency_ms@pi5_onx\] benchmark nasbench201 has no "latency_ms@pi5_onx"; did you mean '
            '"latency_ms@pi5_onnx"',
        ),
        (
            "seed = 2",
            'seed = 2\n[limits."latency_ms@pi5_onx"]\nat_most = "50 %"',
            r'\[limits.latency_ms@pi5_onx\] benchmark .* did you mean "latency_ms@pi5_onnx"',
        ),
        (
            "seed = 2",
            "seed = 2\n[limits.error]\nat_most = 0.5",
            r'\[limits.error\] benchmark .* has no "error"; known: acc',
        ),
        (
            "seed = 2",
            "seed = 2\n[limits.latncy_ms]\nat_most = 9.0",
            r'\[limits.latncy_ms\] .* did you mean "latency_ms"',
        ),
        ("seed = 2", 'seed = 2\nknown = ["macs", "energy_mj@pi4_onnx"]', 'known: .* did you mean "energy_mj@pi5_onnx"'),
        ("latency_ms@pi5_onnx", "latency_ms@pi5_onx", 'objectives: .* did you mean "latency_ms@pi5_onnx"'),
    ],
    ids=["number", "share", "no column", "no metric", "known", "objective"],
)
def test_a_metric_that_the_table_lacks_is_named_before_anything_is_searched_or_changed(
    workspace: Path, old: str, new: str, message: str, *, fresh: bool
) -> None:
    run_folder = workspace / "runs" / "table"
    run_folder.mkdir(parents=True)
    (run_folder / "tabular.json").write_text("{}")
    path, listener = recipe(PI5.replace(old, new), workspace), Listener()
    with pytest.raises(RecipeError, match=rf"search/table.toml: {message}") as refused:
        search_table(path, root=workspace, fresh=fresh, teller=listener)
    assert "\n" not in refused.value.message
    assert listener.stages == []
    assert {file.name: file.read_text() for file in run_folder.iterdir()} == {"tabular.json": "{}"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'dataset = "cifar100"',
            'datset = "cifar100"',
            r'\[benchmark.nasbench201\] unknown key "datset" = \'cifar100\'',
        ),
        ('dataset = "cifar100"', 'dataset = "cifar11"', "dataset is 'cifar11'"),
        ('dataset = "cifar100"', "epochs = 50", "epochs is 50"),
        ('name = "nasbench201"', 'name = "nasbench101"', "nasbench101"),
        ('name = "nsga3"', 'name = "darts"', r'\[strategy\] name "darts" trains weights'),
        ('name = "nsga3"', 'name = "nsg3"', r'\[strategy\] "nsg3" is unknown; did you mean "nsga3"'),
        ("population = 10", "populaton = 10", 'no parameter "populaton"'),
        ("evaluations = 40", "evaluations = -1", r"\[budget\] evaluations is -1"),
        ("evaluations = 40", "evalutions = 40", 'did you mean "evaluations"'),
        ("seed = 2", "sed = 2", 'unknown key "sed" = 2; did you mean "seed"'),
        ('"accuracy", ', "", "expected accuracy among them"),
        ('"accuracy", ', '"accuracy", "speed", ', 'metric "speed" is unknown'),
        ("seed = 2", 'seed = 2\ndata = {source = "digits"}', 'unknown key "data"'),
        ("seed = 2", "seed = ", "not TOML"),
    ],
)
def test_a_slip_is_named_with_its_file(old: str, new: str, message: str) -> None:
    with pytest.raises(RecipeError, match=rf"^search/table.toml: .*{message}"):
        TabularRecipe.from_toml(PI5.replace(old, new), PATH)


def test_missing_tables_name_the_path_and_the_variable(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_BENCH_DATA", str(workspace / "nowhere"))
    with pytest.raises(DataError, match="nowhere/nasbench201/archs.parquet is not there") as caught:
        search_table(recipe(PI5, workspace), root=workspace)
    assert "HWNAS_BENCH_DATA" in caught.value.hint


def test_other_jobs_say_what_such_a_recipe_is_for(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RecipeError, match="searches the table that \\[benchmark\\] names") as caught:
        Recipe.load(recipe(PI5, workspace))
    assert "hwnas search" in caught.value.hint
    search_table(workspace / PATH, root=workspace)
    with pytest.raises(StoreError, match="searched a table") as refused:
        Front.load(workspace / "runs" / "table")
    assert "tabular.json" in refused.value.hint
    found = TabularFront.load(workspace / "runs" / "table")
    code, out, _ = run(capsys, "front", "table")
    assert code == 0 and f"{found.share:.2%} of the true front" in out
    assert all(member.architecture.digest in out for member in found.members)


def test_the_folder_of_a_measured_run_is_left_alone(workspace: Path) -> None:
    (workspace / "runs" / "table").mkdir(parents=True)
    (workspace / "runs" / "table" / "front.json").write_text("{}")
    with pytest.raises(StoreError, match="holds a run that trains and measures networks"):
        search_table(recipe(PI5, workspace), root=workspace, fresh=True)


def test_the_command_prints_the_share_of_the_true_front(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe(PI5, workspace)
    code, out, _ = run(capsys, "search", str(PATH))
    assert code == 0 and "of the true front's hypervolume" in out and "test_accuracy" in out
    code, out, _ = run(capsys, "search", str(PATH), "--json")
    assert code == 0 and 0 < json.loads(out)["hypervolume_share"] <= 1
    code, _, err = run(capsys, "profile", str(PATH))
    assert code == 2 and "hwnas search" in err


def test_the_recipe_in_the_repository_is_one() -> None:
    path = REPOSITORY / "search" / "nasbench201_pi5.toml"
    assert is_tabular(path) and not is_tabular(REPOSITORY / "search" / "quickstart.toml")
    assert not is_tabular(Path("search/nowhere.toml"))
    read = TabularRecipe.from_toml(path.read_text(), path)
    assert read.benchmark.name == "nasbench201" and np.size(read.objectives) == 3


def test_python_takes_any_recipe_by_a_path_as_text(workspace: Path) -> None:
    found = hwnas.search(str(recipe(PI5, workspace)), root=str(workspace))
    assert isinstance(found, hwnas.TabularFront)
    assert found.on_front == list(found.members)
    fastest = found.pick("fastest")
    assert fastest.values["latency_ms@pi5_onnx"] == min(one.values["latency_ms@pi5_onnx"] for one in found.members)
    slowest = max(found.members, key=lambda one: one.values["latency_ms@pi5_onnx"])
    limit = hwnas.Limit("latency_ms@pi5_onnx", at_least=slowest.values["latency_ms@pi5_onnx"])
    assert found.pick("fastest", limits=[limit]) == slowest
