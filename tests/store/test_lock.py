import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.core import StoreError
from hwnas.store import FolderLock


def holder(folder: Path) -> "dict[str, object]":
    row: dict[str, object] = json.loads((folder / "lock").read_text())
    return row


def test_the_same_process_cannot_take_a_folder_twice(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(StoreError, match=rf"this process \({os.getpid()}\) works on this run"):
        FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path).release()


def test_a_living_process_is_named_and_a_killed_one_is_taken_over(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from hwnas.store import FolderLock; "
        "FolderLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match=rf"another process \({child.pid}\) works on this run"):
            FolderLock(tmp_path)
        child.send_signal(signal.SIGKILL)
        # A zombie has not been waited for by its parent, but it works on nothing any more.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        FolderLock(tmp_path)
        assert holder(tmp_path)["pid"] == os.getpid()


def test_a_later_process_with_the_same_id_is_not_the_holder(tmp_path: Path) -> None:
    FolderLock(tmp_path)
    row = holder(tmp_path) | {"pid": os.getppid(), "started": "1"}
    (tmp_path / "lock").write_text(json.dumps(row))
    FolderLock(tmp_path)
    assert holder(tmp_path)["pid"] == os.getpid()


def test_another_machine_is_never_taken_over(tmp_path: Path) -> None:
    FolderLock(tmp_path)
    (tmp_path / "lock").write_text(json.dumps(holder(tmp_path) | {"host": "elsewhere", "pid": 7}))
    with pytest.raises(StoreError, match="process 7 on elsewhere holds this run.*if it is gone, delete"):
        FolderLock(tmp_path)


@pytest.mark.parametrize("content", ["", '{"pid": 3', "[]", '{"pid": "x"}'])
def test_a_half_written_file_holds_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    FolderLock(tmp_path).release()
    assert not (tmp_path / "lock").exists()


def test_release_leaves_a_lock_that_was_taken_over(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    (tmp_path / "lock").write_text(json.dumps(holder(tmp_path) | {"pid": 1}))
    lock.release()
    assert (tmp_path / "lock").exists()
