"""Every command, rightly and wrongly: results on stdout, one line per error on stderr, exit code 2."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from hwnas.cli import main
from hwnas.cli.commands import COMMANDS
from hwnas.core import Answers
from hwnas.strategies import STRATEGIES
from hwnas.zoo import FAMILIES
from tests.job.workspace import PROGRAM, RECIPE, REPOSITORY, ignore_drift, make_workspace, run


@pytest.fixture(scope="module", autouse=True)
def any_drift() -> Iterator[None]:
    yield from ignore_drift()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workspace")
    make_workspace(root)
    for arguments in (["profile", "search/toy.toml", "--on-noise", "mark"], ["search", "search/toy.toml"]):
        started = time.monotonic()
        found = subprocess.run(command(*arguments), cwd=root, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
    (root / "seconds").write_text(str(time.monotonic() - started))
    return root


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *arguments]


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_and_json(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    assert "--json" in out


def test_runs_are_compared_in_a_table_and_a_picture(
    capsys: pytest.CaptureFixture[str], finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        shutil.copytree(finished / "runs" / "toy", tmp_path / "runs" / name)
        path = tmp_path / "runs" / name / "front.json"
        path.write_text(path.read_text().replace('"run": "toy"', f'"run": "{name}"'))
    monkeypatch.chdir(tmp_path)
    row = run_json(capsys, "compare", "one", "two")
    assert [standing["run"] for standing in row["runs"]] == ["one", "two"]
    assert row["runs"][0]["volume"] == row["runs"][1]["volume"] == 1.0  # the same networks twice
    assert Path(row["picture"]).stat().st_size > 1000
    code, out, _ = run(capsys, "compare", "one", "two", "--picture", "both.png")
    assert code == 0
    assert "of the joint front" in out and "both.png" in out
    code, _, err = run(capsys, "compare", "one")
    assert code == 2
    assert "expected two or more" in err


def test_the_front_shows_predicted_beside_measured(
    capsys: pytest.CaptureFixture[str], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    row = run_json(capsys, "front", "toy")
    (finished / "runs" / "toy" / "front.png").unlink()
    code, out, _ = run(capsys, "front", "toy")
    assert code == 0
    for member in row["members"]:
        assert member["digest"] in out
        assert f"{member['metrics']['latency_ms']['value']:.4f}" in out
        assert f"{member['predicted']['latency_ms']['value']:.4f}" in out
    assert (finished / "runs" / "toy" / "front.png").read_bytes().startswith(b"\x89PNG")
    assert run_json(capsys, "front", "runs/toy") == row, "a run may be given by its folder"


def test_pick_export_and_check(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    knee, fastest = (run_json(capsys, "pick", "toy", "--by", by) for by in ("knee", "fastest"))
    assert fastest["metrics"]["latency_ms"]["value"] <= knee["metrics"]["latency_ms"]["value"]
    assert run_json(capsys, "pick", "toy", "--by", "latency_ms=1") | {"reason": fastest["reason"]} == fastest
    assert run_json(capsys, "pick", "toy", "--by", knee["digest"][:8]) == knee | {"reason": None}
    front = [member for member in run_json(capsys, "front", "toy")["members"] if member["on_front"]]
    if len(front) > 1:
        assert fastest["reason"].startswith("the fastest; ") and "latency_ms 100 %" in fastest["reason"]
    else:
        assert fastest["reason"] == "the only one"
    assert [step["better"] for step in fastest["exchanges"]] == (["accuracy"] if len(front) > 1 else [])
    code, out, _ = run(capsys, "pick", "toy")
    assert code == 0
    assert knee["reason"] in out and ("a step away on the front:" in out) == (len(front) > 1)
    assert f"hwnas export toy --by {knee['digest']}" in out
    assert "options.intra_op_num_threads = 1  # of the latency above" in out
    target = tmp_path / "deep" / "model.onnx"
    exported = run_json(capsys, "export", "toy", "--by", "fastest", "--to", str(target))
    assert exported["architecture"] == fastest["architecture"]
    alone = run_json(capsys, "check", str(target))
    assert alone["batches"] == [1, 2, 5, 16]
    assert alone["difference_now"] is None, "there are no torch weights beside the copy"
    beside = run_json(capsys, "check", fastest["file"])
    assert beside["difference_now"] <= 1e-4
    [table] = Path("latency_tables").glob("*.jsonl")
    assert run_json(capsys, "check", str(table))["blocks"] > 10


@pytest.mark.parametrize("size", [(8, 8), (9, 20), (31, 17)])
def test_the_lines_that_pick_prints_do_what_the_file_does(
    capsys: pytest.CaptureFixture[str],
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
) -> None:
    """Literally, from where the user stands, with a folder whose name is no word of a shell."""
    import numpy as np
    import onnxruntime
    from PIL import Image

    from hwnas.data import Preprocessing
    from hwnas.export import read_metadata

    shutil.copytree(finished / "runs" / "toy", tmp_path / "my $runs" / "toy's [red]")
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save("image.png")
    code, out, _ = run(capsys, "pick", "my $runs/toy's [red]")
    assert code == 0
    program = out.split("use it, in Python:\n")[1]
    made: list[dict[str, Any]] = []
    session_of = onnxruntime.InferenceSession

    def listen(path: str, options: Any, providers: Any) -> Any:
        made.append({"path": path, "threads": options.intra_op_num_threads, "providers": providers})
        return session_of(path, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", listen)
    names: dict[str, Any] = {}
    exec(program, names)
    facts = read_metadata(Path(made[0]["path"]))
    assert made[0]["threads"] == facts["latency_measured"]["conditions"]["threads"] == 1
    assert made[0]["providers"] == ["CPUExecutionProvider"]
    rule = Preprocessing.from_json(facts["preprocessing"])
    images = rule(pixels, facts["preprocessing"]["size"])[None]
    expected = session_of(made[0]["path"]).run(None, {"image": images})[0][0]
    np.testing.assert_allclose(names["logits"], expected, atol=1e-5)
    assert capsys.readouterr().out == f"{facts['classes'][int(expected.argmax())]}\n"
    for line in out.split("use it")[0].splitlines():
        mark, _, words = line.partition(":  ")
        if mark in {"keep it", "check it"}:
            assert run(capsys, *shlex.split(words)[1:])[0] == 0, line


def test_a_member_that_was_changed_is_not_handed_over(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    path = Path(run_json(capsys, "pick", "toy")["file"])
    assert run_json(capsys, "pick", "toy")["file_state"] == "as exported"
    model = onnx.load(str(path))
    weights = model.graph.initializer[0]
    weights.raw_data = bytes(len(weights.raw_data))
    onnx.save(model, str(path))
    for arguments in (["pick", "toy"], ["export", "toy", "--to", "model.onnx"]):
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, "")
        assert f"{path}: changed since it was exported" in err and "hwnas search" in err
    assert not Path("model.onnx").exists()
    path.unlink()
    code, _, err = run(capsys, "pick", "toy")
    assert (code, "the member's file is gone" in err) == (2, True)


def test_the_machine_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    rows = run_json(capsys, "check")
    assert {row["what"] for row in rows} >= {"torch", "onnxruntime", "cores", "export"}
    assert not [row for row in rows if row["state"] == "fails"]
    assert {row["what"] for row in rows} >= {"onnxruntime-cpu", "onnxruntime-cuda", "torch", "openvino"}
    assert any(row["what"].startswith("NVIDIA") for row in rows)
    for row in rows:
        if row["state"] in {"missing", "unknown"}:
            assert row["missing"]
            assert row["mend"]


def test_a_missing_exporter_helper_is_told_early(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case O-01."""
    from importlib import metadata

    version = metadata.version

    def without(package: str) -> str:
        if package == "onnxscript":
            raise metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(metadata, "version", without)
    code, out, _ = run(capsys, "check")
    assert code == 2
    assert "pip install onnxscript" in out


def test_lists(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, finished: Path) -> None:
    monkeypatch.chdir(finished)
    assert {row["name"] for row in run_json(capsys, "spaces")} >= {"mobilenet_v3", "toy"}
    assert {row["name"] for row in run_json(capsys, "methods")} >= {"random", "nsga2", "nat"}
    found = {row["name"]: row for row in run_json(capsys, "devices")}
    here = found["this-cpu"]
    assert (here["state"], here["live"]["provider"]) == ("works", "CPUExecutionProvider")
    assert here["machine"]["identity"]["cores"]
    assert "gpus" in here["machine"]["nvidia"]
    for name in ("spaces", "methods", "devices"):
        code, out, _ = run(capsys, name)
        assert code == 0
        assert out


@pytest.mark.parametrize(
    ("arguments", "fault", "way_out"),
    [
        (["search", "search/tyo.toml"], "tyo.toml: no such recipe", "toy.toml"),
        (["front", "other"], "no front; there is no such run", "toy"),
        (["pick", "toy", "--by", "nee"], '"nee" fits 0 members', ""),
        (["pick", "toy", "--by", "latncy=1"], 'weight for "latncy"', ""),
        (["pick", "toy", "--at-most", "latency_ms"], '"latency_ms"; expected a metric and a number', "latency_ms=0.2"),
        (["pick", "toy", "--at-most", "latency_ms=0.000001"], "the nearest has", "loosen"),
        (["export", "toy", "--to", "model.pt"], "expected a name that ends in .onnx", ""),
        (["check", "no.onnx"], "no.onnx: no such file", ""),
        (["check", "no.jsonl"], "no.jsonl", "profile"),
        (["serch"], 'did you mean "search"?', "--help"),
        (["search", "search/toy.toml", "--freshly"], "--freshly", "--help"),
    ],
)
def test_wrong_input_is_one_line_with_the_way_out(
    capsys: pytest.CaptureFixture[str],
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    fault: str,
    way_out: str,
) -> None:
    monkeypatch.chdir(finished)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert fault in err
    assert way_out in err
    assert "Traceback" not in err
    assert not out
    assert len(err.strip().splitlines()) <= 2


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from hwnas.core import RecipeError

    with pytest.raises(RecipeError):
        main(["search", str(tmp_path / "no.toml"), "--debug"])


def test_damaged_images_are_all_named_before_anything_is_trained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case O-03 through the command line."""
    from tests.data.tiny_images import damage, make_tiny_images

    make_workspace(tmp_path, recipe=RECIPE.replace('source = "digits"', 'source = "image_folder"\npath = "images"'))
    names = damage(make_tiny_images(tmp_path / "images"))
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "profile", "search/toy.toml")
    assert code == 2
    for name in names:
        assert Path(name).name in err
    assert "skip" in err
    assert not (tmp_path / "latency_tables").exists()


def start(root: Path, *arguments: str, program: str = PROGRAM) -> "subprocess.Popen[str]":
    # A shell's background job ignores Ctrl-C, and so would its children: these hear it wherever the tests run.
    def hear_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    temporary = root / "temporary"
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", program, *(arguments or ("search", "search/toy.toml"))],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)},
        preexec_fn=hear_interrupts,
    )


def children_of(pid: int) -> set[int]:
    """Processes that this one has started, and theirs."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in {pid, *found}} - found:
        found |= more
    return found


def command_of(pid: int) -> bytes:
    """Empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def left_in(temporary: Path) -> list[str]:
    """What is in the folder for temporary files; onnxruntime leaves an id of its own there."""
    return sorted(path.name for path in temporary.iterdir() if path.name != ".ses")


def wait_for(condition: Any, process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + 60
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)


def front_of(root: Path) -> list[tuple[str, float, float]]:
    row = json.loads((root / "runs" / "toy" / "front.json").read_text())
    return sorted(
        (m["digest"], m["metrics"]["accuracy"]["value"], m["predicted"]["latency_ms"]["value"]) for m in row["members"]
    )


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_search_that_is_stopped_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str],
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_workspace(tmp_path)
    shutil.copytree(finished / "latency_tables", tmp_path / "latency_tables")
    process = start(tmp_path, "search", "search/toy.toml", "--fresh")
    wait_for(lambda: list(tmp_path.glob("runs/toy/checkpoints/*.ckpt")), process)
    code_of_front, said, _ = run(capsys, "front", "toy")
    assert code_of_front == 0
    assert f"runs/toy: process {process.pid} on {socket.gethostname()} works on it" in said
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    so_far = run_json(capsys, "front", "toy")
    assert (so_far["state"], so_far["goes_on"]) == ("stopped", "hwnas search search/toy.toml")
    assert so_far["epochs"]["supernet"] > 0 and so_far["budget"] == 12
    assert "to go on: hwnas search search/toy.toml\n" in run(capsys, "front", "toy")[1]
    assert "hwnas front runs/toy" in run(capsys, "pick", "toy")[2]
    assert "to go on: hwnas search search/toy.toml\n" in err, "without --fresh"
    assert "Traceback" not in err
    assert not out
    assert not list(tmp_path.glob("runs/toy/**/*.tmp"))
    assert left_in(tmp_path / "temporary") == []
    if name != "SIGINT":
        return
    done = start(tmp_path)
    _, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert "  note: going on " in err
    assert front_of(tmp_path) == front_of(finished)


@pytest.mark.parametrize(("command", "name", "code"), [("profile", "SIGTERM", 143), ("bench", "SIGHUP", 129)])
def test_a_measurement_that_is_stopped_leaves_nothing_behind(
    finished: Path, tmp_path: Path, command: str, name: str, code: int
) -> None:
    make_workspace(tmp_path)
    file = next((finished / "runs" / "toy" / "members").glob("*.onnx"))
    arguments = {"profile": ("search/toy.toml",), "bench": (str(file),)}[command]
    process = start(tmp_path, command, *arguments, program=PROGRAM)
    children: set[int] = set()

    def measuring() -> bool:
        """Whether the program that times runs: what is asked about the machine before also takes a process."""
        children.update(children_of(process.pid))
        return any(b"measure" in command_of(child) for child in children)

    wait_for(measuring, process)
    process.send_signal(getattr(signal, name))
    stopped = time.monotonic()
    wait_for(lambda: not children & children_of(process.pid), process)
    assert time.monotonic() - stopped < 5
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert f"stopped: by {'Ctrl-C' if name == 'SIGINT' else name}" in err and f": hwnas {command} " in err
    assert "Traceback" not in err and "error" not in err
    assert not out
    assert children and not any(Path(f"/proc/{child}").exists() for child in children)
    assert left_in(tmp_path / "temporary") == []


@pytest.mark.parametrize("moment", [0.15, 0.5, 0.85])
def test_kill_9_loses_nothing(finished: Path, tmp_path: Path, moment: float) -> None:
    """Case O-18: killed at three moments of the run, run again: the same networks, accuracies, predictions."""
    make_workspace(tmp_path)
    shutil.copytree(finished / "latency_tables", tmp_path / "latency_tables")
    process = start(tmp_path)
    time.sleep(moment * float((finished / "seconds").read_text()))
    process.kill()
    process.communicate(timeout=60)
    again = start(tmp_path)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert front_of(tmp_path) == front_of(finished)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--limit-s", "0", "greater than or equal to 1"), ("--on-noise", "never", "'strict', 'default', 'mark'")],
)
def test_an_option_out_of_its_range_is_named(
    capsys: pytest.CaptureFixture[str], option: str, value: str, said: str
) -> None:
    code, _, err = run(capsys, "profile", "search/toy.toml", option, value)
    assert code == 2
    assert option in err and said in err


def test_no_table_of_a_pipe_is_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    _, out, _ = run(capsys, "spaces")
    assert "…" not in out
    assert "mobilenet_v3_tiny" in out and "128, 160, 192, 224" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["spaces"],
        ["devices"],
        ["methods"],
        *(["spaces", name] for name in FAMILIES),
        *(["methods", name] for name in STRATEGIES),
    ],
)
def test_lists_are_read_in_80_columns(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    # Of devices only the table: what a runtime lacks is a line of its own.
    lines = out.partition("float32 throughout")[0].splitlines()
    assert max(map(len, lines)) <= 80


def test_spaces_say_which_have_a_supernet(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {line.split()[0]: line.split()[3] for line in run(capsys, "spaces")[1].splitlines() if "e+" in line}
    assert rows == {name: "yes" if family.has_supernet else "no" for name, family in FAMILIES.items()}
    assert {row["name"]: row["supernet"] for row in run_json(capsys, "spaces")} == {
        name: family.has_supernet for name, family in FAMILIES.items()
    }
    assert "no supernet" in run(capsys, "spaces", "metaqnn")[1]
    code, _, err = run(capsys, "spaces", "mobilenet")
    assert code == 2 and 'did you mean "mobilenet_v3' in err


def test_kinds_of_decisions_are_listed_once_and_many_options_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert "    filters 24, 36, 48, 64\n    from 0, 1\n" in run(capsys, "spaces", "nas_rl")[1]
    lines = run(capsys, "spaces", "metaqnn")[1]
    assert "    pools none, 5/3, 3/2, 2/2, ... (35 in all)\n    convs 0, 1, 2, 3\n" in lines
    assert "avg_pool_3x3 on each of 6 edges" in run(capsys, "spaces", "nasbench201")[1].replace("\n        ", " ")


def test_what_was_extrapolated_is_marked(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "runs" / "toy" / "front.json"
    row = json.loads(path.read_text())
    for member in row["members"]:
        member["predicted"]["latency_ms"].pop("extrapolated", None)
    path.write_text(json.dumps(row))
    _, without, _ = run(capsys, "front", "toy")
    assert "extrapolated" not in without
    far = row["members"][0]["predicted"]["latency_ms"]
    far["extrapolated"] = True
    path.write_text(json.dumps(row))
    _, out, _ = run(capsys, "front", "toy")
    assert f"{far['value']:.4f}*" in out
    assert out.count("*") == 2, "the network and the note"
    assert "* extrapolated: outside of what the prediction was fitted on" in out


def test_a_share_may_be_a_percentage_and_a_wrong_one_is_named(
    capsys: pytest.CaptureFixture[str], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    best = run_json(capsys, "pick", "toy", "--by", "most-accurate")
    floor = f"accuracy={100 * best['metrics']['accuracy']['value']:.6f} %"
    assert run_json(capsys, "pick", "toy", "--by", "fastest", "--at-least", floor)["digest"] == best["digest"]
    for text, said in (("accuracy=90", '"accuracy=90 %"'), ("latency_ms=60 %", "are shares of a whole")):
        code, _, err = run(capsys, "pick", "toy", "--at-least", text)
        assert code == 2 and said in err


def test_points_have_letters_that_pick_understands(
    capsys: pytest.CaptureFixture[str], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    members = run_json(capsys, "front", "toy")["members"]
    _, out, _ = run(capsys, "front", "toy")
    for letter, member in zip("ABCDEF", members, strict=False):
        assert f"{letter} {member['digest']}" in out
        found = run_json(capsys, "pick", "toy", "--by", letter)
        assert (found["digest"], found["letter"]) == (member["digest"], letter)
    code, _, err = run(capsys, "pick", "toy", "--by", "Z")
    assert code == 2 and '"Z" fits 0 members; expected one of A ' in err


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    row = json.loads(path.read_text())
    change(row)
    path.write_text(json.dumps(row))


def wrong_in(row: dict[str, Any], part: str, share: float) -> None:
    """From so large a share of the images on, all are wrong."""
    old = Answers.from_json(row["answers"][part])
    new = Answers(old.counts, np.arange(len(old.right)) % 20 < 20 * share)
    row["answers"][part] = new.to_json()
    values = {"accuracy": new.accuracy, "balanced_accuracy": new.balanced_accuracy}
    for name, value in values.items():
        if part == "test":
            row["test"][name] = value
        else:
            row["metrics"][name]["value"] = value


def test_guessers_and_gaps_are_told_where_a_network_is_chosen(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "runs" / "toy" / "front.json"

    def spoil(row: dict[str, Any]) -> None:
        for n, member in enumerate(row["members"]):
            member["on_front"] = True
            member["metrics"]["latency_ms"]["value"] = 0.3 - 0.1 * n
            for part in ("validation", "test"):
                wrong_in(member, part, 0.95 if n == 0 else 0.1)
        wrong_in(row["members"][0], "test", 0.5)

    rewritten(path, spoil)
    code, out, _ = run(capsys, "pick", "toy", "--by", "fastest")
    assert code == 0 and out.startswith("fastest: A "), "B and C are faster and guess"
    assert "the only one" in out
    assert "left out, no better than guessing" in out and "--by B takes it all the same" in out
    assert "validation is better than test by more than chance explains: A, +45.0 +- " in out
    _, out, _ = run(capsys, "pick", "toy", "--by", "B")
    assert "no better than guessing, which gives 1" in out
    _, out, _ = run(capsys, "front", "toy")
    assert out.count("at chance") == 3 and "hwnas pick takes none of them but by name" in out
    assert "expect the test value" in out
    rewritten(path, lambda row: wrong_in(row["members"][0], "validation", 0.1))
    code, _, err = run(capsys, "pick", "toy", "--by", "fastest")
    assert code == 2 and "no network is better than guessing" in err and "takes it anyway" in err


def test_the_gain_over_the_next_cheaper_has_its_error(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)

    def spread(row: dict[str, Any]) -> None:
        for n, member in enumerate(row["members"]):
            member["on_front"] = n < 2
            member["metrics"]["latency_ms"]["value"] = 0.3 - 0.1 * n
            wrong_in(member, "validation", 0.9 - 0.2 * n)

    rewritten(tmp_path / "runs" / "toy" / "front.json", spread)
    _, out, _ = run(capsys, "pick", "toy", "--by", "A")
    images = len(Answers.from_json(run_json(capsys, "front", "toy")["members"][0]["answers"]["validation"]).right)
    error = 100 * (0.2 * images + 2) ** 0.5 / images
    assert f"+20.0 +- {error:.1f} points of accuracy against the next cheaper, B" in out
    found = run_json(capsys, "pick", "toy", "--by", "A")["against_the_next_cheaper"]
    assert found["value"] == pytest.approx(0.2) and 100 * found["standard_error"] == pytest.approx(error)


def test_the_picture_and_the_terminal_draw_the_first_two_objectives(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "runs" / "toy" / "front.json"
    two = [
        {"name": "balanced_accuracy", "direction": "maximize", "unit": "share"},
        {"name": "macs", "direction": "minimize", "unit": "multiply-adds"},
    ]
    rewritten(path, lambda row: row.update(objectives=two))
    _, out, _ = run(capsys, "front", "toy")
    assert "balanced accuracy, validation images, %" in out and "multiply-adds, millions" in out
    assert "latency, " not in out
    before = path.with_name("front.png").read_bytes()
    rewritten(path, lambda row: row["objectives"].append({"name": "latency_ms", "direction": "minimize", "unit": "ms"}))
    assert run(capsys, "front", "toy")[0] == 0
    assert path.with_name("front.png").read_bytes() != before, "the third objective is a colour"
