"""The torture and the storms for minutes, with all sorts of settings: `make stress`.

ROVING_STRESS_SECONDS says for how long, in all; ROVING_SEED repeats the order, and what is left to chance.
Each program runs with each setting before any comes again.
"""

import itertools
import os
import random
import time

import child
import pytest
import test_lock_torture
import test_patch_storm
import test_preemption_storm
import test_sync_torture
import test_torture

STORM = test_preemption_storm.STORM
PROGRAMS = {
    **{f"torture: {name}": test_torture.COMMON + source for name, source in test_torture.PROGRAMS.items()},
    **{
        f"locks: {name}": test_lock_torture.COMMON + source
        for name, source in test_lock_torture.PROGRAMS.items()
    },
    "everything": test_torture.LENGTH_AND_SEED + test_torture.ROUNDS + test_sync_torture.EVERYTHING,
    **{f"storm: {name}": STORM + source for name, source in test_preemption_storm.BODIES.items()},
    "patched": test_torture.LENGTH_AND_SEED + test_torture.ROUNDS + test_patch_storm.MIXED,
    "storm: imports": test_preemption_storm.IMPORTS,
}

Setting = tuple[dict[str, str], tuple[str, ...]]
SETTINGS: list[Setting] = [({}, ()), ({}, ("-X", "dev"))]
if child.FREE_THREADED:
    SETTINGS += [({"PYTHON_TLBC": "0"}, ()), ({"PYTHON_TLBC": "1"}, ()), ({"PYTHON_GIL": "1"}, ())]
WORKERS = [1, 2, 4] if child.FREE_THREADED else [1]

# How long one program runs.
ONCE = 3.0


def fails(name: str, environment: dict[str, str], options: tuple[str, ...]) -> str | None:
    """What became of one program, if it is not well."""
    done = child.run(PROGRAMS[name], env=environment, options=options, timeout=120)
    if done.returncode == 0 and done.stdout.rstrip().endswith("ok"):
        return None
    settings = " ".join(f"{key}={value}" for key, value in environment.items())
    told = f"{done.returncode}\n{done.stdout}\n{done.stderr[-6000:]}"
    return f"{settings} python {' '.join(options)} # {name}\n{told}"


@pytest.mark.skipif("ROVING_STRESS_SECONDS" not in os.environ, reason="runs for minutes: make stress")
def test_stress() -> None:
    """No crash, no hang, and every result right."""
    seconds = float(os.environ["ROVING_STRESS_SECONDS"])
    seed = int(os.environ.get("ROVING_SEED") or time.time_ns() % (1 << 30))
    chance = random.Random(seed)
    runs = list(itertools.product(PROGRAMS, SETTINGS, WORKERS))
    if not test_torture.WALKERS_ARE_SAFE:
        runs = [run for run in runs if run[0] != "torture: walkers"]
    chance.shuffle(runs)
    print(f"ROVING_SEED={seed}: {len(runs)} combinations", flush=True)
    end = time.monotonic() + seconds
    failures = []
    count = 0
    for name, (settings, options), workers in itertools.cycle(runs):
        if time.monotonic() > end:
            break
        environment = {
            **settings,
            "ROVING_WORKERS": str(workers),
            "ROVING_TORTURE_SECONDS": str(ONCE),
            "ROVING_SEED": str(chance.randrange(1 << 30)),
        }
        if failure := fails(name, environment, options):
            print(failure, flush=True)
            failures.append(failure)
        count += 1
    print(f"{count} runs, {len(failures)} failed", flush=True)
    assert not failures, "\n\n".join(failures)
    assert count > 0
