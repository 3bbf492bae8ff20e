"""The command `roving tasks`."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from roving.tasks import Tasks

MODULE = """
    from roving.tasks import Tasks
    tasks = Tasks("sqlite:jobs.db")

    @tasks.task(queue="sums")
    def add(a, b):
        return a + b

    @tasks.task
    def fail():
        raise ValueError("no \\x1b[31mcolour")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with a module `shop`."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(MODULE))
    return tmp_path


def roving_tasks(folder: Path, *arguments: str, status: int = 0) -> str:
    """Run the command; give back what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "roving", "tasks", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def enqueue(folder: Path) -> tuple[str, str]:
    """Enqueue a job of each task, as the shop would."""
    with Tasks(f"sqlite:{folder}/jobs.db") as tasks:
        add = tasks.task(name="shop.add", queue="sums")(lambda a, b: None)
        fail = tasks.task(name="shop.fail")(lambda: None)
        return add.delay(1, 2).id, fail.delay().id


def test_from_end_to_end(folder: Path) -> None:
    """Jobs are run until none is left, and looked after."""
    added, failed = enqueue(folder)
    listed = roving_tasks(folder, "list", "shop:tasks")
    assert [line.split()[0] for line in listed.splitlines()] == [failed, added]
    output = roving_tasks(folder, "worker", "shop", "--drain", "--queues", "sums,other", "-c", "2")
    assert "runs jobs of sums, other, 2 at a time" in output
    stats = json.loads(roving_tasks(folder, "stats", "sqlite:jobs.db", "--json"))
    assert stats["queues"]["sums"]["succeeded"] == 1
    assert stats["queues"]["default"]["queued"] == 1
    roving_tasks(folder, "worker", "shop:tasks", "--drain")
    shown = roving_tasks(folder, "show", "sqlite:jobs.db", added)
    assert '"result":3' in shown
    shown = roving_tasks(folder, "show", "shop:tasks", failed)
    assert "Traceback (most recent call last):" in shown
    # What a task says must not command the terminal.
    listed = roving_tasks(folder, "list", "shop:tasks", "--status", "failed")
    assert "ValueError: no ?[31mcolour" in listed
    assert len(listed.splitlines()) == 1
    (plain,) = roving_tasks(folder, "list", "shop:tasks", "--json", "--task", "shop.fail").splitlines()
    assert json.loads(plain)["status"] == "failed"
    assert f"{failed}: queued" in roving_tasks(folder, "retry", "shop:tasks", "--failed")
    assert "the job is queued" in roving_tasks(folder, "retry", "shop:tasks", failed, status=1)
    assert f"{failed}: cancelled" in roving_tasks(folder, "cancel", "shop:tasks", failed)
    assert f"{failed}: had cancelled before" in roving_tasks(folder, "cancel", "shop:tasks", failed)
    assert "1 jobs deleted" in roving_tasks(folder, "purge", "shop:tasks", "--status", "cancelled")
    assert "1 jobs deleted" in roving_tasks(folder, "purge", "shop:tasks", "--all")
    assert roving_tasks(folder, "list", "shop:tasks") == ""
    assert "sums" in roving_tasks(folder, "stats", "shop:tasks")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["worker", "nothing:tasks"], 1, "there is no module 'nothing'"),
        (["worker", "shop:nothing"], 1, "module 'shop' has no 'nothing'"),
        (["worker", "shop:add"], 1, "is a Task, and a roving.tasks.Tasks is wanted"),
        (["worker", "shop:tasks", "-c", "0"], 2, "'0' is not a number from 1 on"),
        (["list", "sqlite:typo.db"], 1, "there is no job store typo.db"),
        (["list", "redis://"], 1, "there is no module 'redis"),
        (["show", "shop:tasks", "17"], 1, "no job id"),
        (["show", "shop:tasks", "01890000-0000-7000-8000-000000000001"], 1, "there is no job 0189"),
        (["retry", "shop:tasks"], 1, "which jobs?"),
        (["purge", "shop:tasks"], 1, "which jobs?"),
        (["frobnicate"], 2, "invalid choice"),
    ],
)
def test_mistakes(folder: Path, arguments: list[str], status: int, message: str) -> None:
    """Each is said, in a line."""
    output = roving_tasks(folder, *arguments, status=status)
    assert message in output
    assert "Traceback" not in output


def test_what_the_module_raises_is_shown(folder: Path) -> None:
    """With its traceback."""
    (folder / "broken.py").write_text("import nothing_of_the_kind\n")
    output = roving_tasks(folder, "worker", "broken:tasks", status=1)
    assert "import nothing_of_the_kind" in output
    assert "broken:tasks cannot be imported" in output
