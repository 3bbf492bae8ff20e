"""Random canvases, against what they say."""

from typing import Any

import pytest
from roving.tasks import Canvas, chain, group
from test_tasks_canvas import Site, listed

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

NOTHING = object()
CALLS = st.tuples(st.sampled_from(["s", "si"]), st.integers(0, 9))
CANVASES = st.recursive(
    CALLS,
    lambda inner: st.one_of(
        st.tuples(st.just("chain"), st.lists(inner, min_size=1, max_size=4)),
        st.tuples(st.just("group"), st.lists(inner, max_size=4)),
    ),
    max_leaves=12,
)


def made(site: Site, plan: tuple[str, Any]) -> Canvas:
    """Make a canvas of a plan."""
    match plan:
        case ("chain", parts):
            return chain(made(site, part) for part in parts)
        case ("group", parts):
            return group(made(site, part) for part in parts)
        case (kind, number):
            return getattr(site.pack, kind)(number)  # type: ignore[no-any-return]


def expected(plan: tuple[str, Any], before: Any = NOTHING) -> Any:
    """Say what it gives, after what is before it."""
    match plan:
        case ("chain", parts):
            for part in parts:
                before = expected(part, before)
            return before
        case ("group", parts):
            return [expected(part, before) for part in parts]
        case ("s", number) if before is not NOTHING:
            return [before, number]
        case (_, number):
            return [number]


def test_they_give_what_they_say() -> None:
    """However they are nested, and several at once."""
    site = Site("memory:")

    @given(st.lists(CANVASES, min_size=1, max_size=3))
    @settings(max_examples=100, deadline=None)
    def check(plans: list[tuple[str, Any]]) -> None:
        jobs = [made(site, plan).delay() for plan in plans]
        for plan, job in zip(plans, jobs, strict=True):
            assert listed(job.get(timeout=20)) == expected(plan)

    # One worker for all.
    with site.tasks, site.tasks.worker():
        check()


@given(CANVASES)
@settings(max_examples=50, deadline=None)
def test_eagerly_too(plan: tuple[str, Any]) -> None:
    """One after the other, where they are enqueued."""
    site = Site("memory:", eager=True)
    with site.tasks:
        assert listed(made(site, plan).delay().get(timeout=0)) == expected(plan)
