"""The quick ones of CPython's own tests, and how failures are judged."""

import textwrap
from pathlib import Path

import pytest
import runner
from runner import Known, Module, describe, judge, known_failures, modules


def listed() -> dict[str, Known]:
    """Give the known failures; without a list, or tests, there is nothing to run."""
    if not runner.have_tests():
        pytest.skip("this interpreter has no `test` package: distributions leave it out")
    try:
        return known_failures()
    except LookupError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("module", [m for m in modules() if m.quick], ids=lambda module: module.name)
def test_module(module: Module) -> None:
    """A module does in a fiber as the list says."""
    report = judge(module, listed())
    assert report.good, describe(report)
    assert report.counts.get("passed", 0) > 0


FATES = """
import signal, threading, unittest
import roving

class Fates(unittest.TestCase):
    def test_a_passes(self):
        pass
    def test_b_fails_in_fibers(self):
        self.assertIsNone(roving.current())
    def test_c_fails_everywhere(self):
        self.fail()
    def test_d_crashes_in_fibers(self):
        if roving.current() is not None:
            signal.raise_signal(signal.SIGSEGV)
    def test_e_hangs_in_fibers(self):
        if roving.current() is not None:
            threading.Event().wait()
    def test_f_in_parts(self):
        for i in range(3):
            with self.subTest(i):
                self.assertTrue(i != 1 or roving.current() is None)
    def test_g_skips(self):
        self.skipTest("today")
    def test_h_comes_after_all(self):
        pass
"""


def test_judgement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crashes and hangs are named and the rest still runs; known ones are allowed, and must fail."""
    (tmp_path / "fates.py").write_text(textwrap.dedent(FATES))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(runner, "PATIENCE", 2.0)
    monkeypatch.setattr(runner, "LITTLE_PATIENCE", 1.0)

    def name(letter: str) -> str:
        test = next(
            line.split("def ")[1].split("(")[0] for line in FATES.splitlines() if f"test_{letter}_" in line
        )
        return f"fates.Fates.{test}"

    report = judge(Module("fates"), {})
    assert {test: outcome["outcome"] for test, outcome in report.unexpected.items()} == {
        name("b"): "failed",
        name("d"): "crashed",
        name("e"): "hung",
        name("f"): "failed",
    }, describe(report)
    assert "SIGSEGV" in report.unexpected[name("d")]["text"]
    assert list(report.elsewhere) == [name("c")]
    assert report.counts["passed"] == 2
    assert report.counts["skipped"] == 1
    assert not report.good

    known = {name(letter): Known(name(letter), "") for letter in "abdfg"}
    known[name("e")] = Known(name("e"), "", hangs=True)
    known["fates.Fates.test_gone"] = Known("fates.Fates.test_gone", "")
    known["fates_of_others.Fates.test_x"] = Known("fates_of_others.Fates.test_x", "")
    report = judge(Module("fates"), known)
    assert not report.unexpected, describe(report)
    assert sorted(report.known) == [name(letter) for letter in "bdef"]
    assert report.stale == [f"{name('a')} passes", "fates.Fates.test_gone is no test"]
    assert not report.good

    report = judge(
        Module("fates"), {name(letter): Known(name(letter), "", sometimes=True) for letter in "abdef"}
    )
    assert report.good, describe(report)


def test_every_known_failure_is_of_a_module_that_runs() -> None:
    """And is listed once."""
    names = [module.name for module in modules()]
    assert len(names) == len(set(names))
    for test in known_failures("3.14"):
        assert any(test.startswith(f"{name}.") for name in names), test
