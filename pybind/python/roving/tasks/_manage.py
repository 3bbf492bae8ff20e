"""The command `roving tasks`: looking after jobs."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from typing import Any

from roving._roving import StoreError
from roving.tasks._app import Tasks
from roving.tasks._job import moment

__all__ = ["run"]

_TIMES = ("enqueued_at", "eta", "expires", "started_at", "finished_at")


def run(tasks: Tasks, options: argparse.Namespace) -> int:
    """Do what the command says; return its exit status. Raises StoreError and ValueError."""
    return _COMMANDS[options.command](tasks, options)


def _filter(options: argparse.Namespace) -> dict[str, Any]:
    named = {name: getattr(options, name, None) for name in ("statuses", "queue", "task")}
    return {name: value for name, value in named.items() if value is not None}


def _time(milliseconds: int | None) -> str | None:
    found = moment(milliseconds)
    return None if found is None else found.astimezone().isoformat(sep=" ", timespec="milliseconds")


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Make a record one that JSON takes."""
    plain = {name: _time(value) if name in _TIMES else value for name, value in record.items()}
    for name in ("payload", "result"):
        value = record.get(name)
        if isinstance(value, bytes):
            plain[name] = value.decode("utf-8", "backslashreplace")
    return plain


def _line(text: str, width: int) -> str:
    """Put a text into a column: what is not printable would run over others, or command the terminal."""
    text = "".join(each if each.isprintable() else "?" for each in text)
    return text if len(text) <= width else text[: width - 1] + "…"


def _list(tasks: Tasks, options: argparse.Namespace) -> int:
    records = tasks._admin.list(_filter(options), options.after, options.limit, True)
    if options.json:
        for record in records:
            print(json.dumps(_plain(record)))
        return 0
    for record in records:
        since = moment(record["enqueued_at"]) or datetime.datetime.now(datetime.UTC)
        print(
            f"{record['id']}  {since.astimezone():%Y-%m-%d %H:%M:%S}  {record['status']:<11}  "
            f"{_line(record['queue'], 15):<15}  {_line(record['task'], 40):<40}  "
            f"{_line(record['error'] or '', 60)}".rstrip()
        )
    if len(records) == options.limit:
        print(f"(there may be more: --after {records[-1]['id']})", file=sys.stderr)
    return 0


def _show(tasks: Tasks, options: argparse.Namespace) -> int:
    record = tasks._store.get(options.id)
    if record is None:
        print(f"roving: there is no job {options.id}, or not any more", file=sys.stderr)
        return 1
    plain = _plain(record)
    trace = plain.pop("traceback")
    for name, value in plain.items():
        if value is not None and value is not False:
            print(f"{name:<16} {value}")
    if trace:
        print(f"\n{trace}", end="")
    return 0


def _each(ids: list[str], call: Any) -> int:
    status = 0
    for id in ids:
        try:
            print(f"{id}: {call(id)}")
        except (StoreError, ValueError) as error:
            print(f"roving: {id}: {error}", file=sys.stderr)
            status = 1
    return status


def _retry(tasks: Tasks, options: argparse.Namespace) -> int:
    def retry(id: str) -> str:
        tasks._store.retry(id)
        return "queued"

    ids = list(options.ids)
    if options.failed:
        wanted = _filter(options) | {"statuses": ["failed", "quarantined"]}
        after = None
        while records := tasks._admin.list(wanted, after, 1000, False):
            ids += [record["id"] for record in records]
            after = records[-1]["id"]
    elif not ids:
        raise ValueError("which jobs? ID..., or --failed")
    return _each(ids, retry)


def _cancel(tasks: Tasks, options: argparse.Namespace) -> int:
    said = {"now": "cancelled", "requested": "is asked to stop"}

    def cancel(id: str) -> str:
        status = tasks._store.cancel(id)
        return said.get(status, f"had {status} before")

    return _each(options.ids, cancel)


def _purge(tasks: Tasks, options: argparse.Namespace) -> int:
    if not options.statuses and not options.all:
        raise ValueError("which jobs? --status STATUS, or --all, whatever their status")
    print(f"{tasks._admin.purge(_filter(options))} jobs deleted")
    return 0


def _stats(tasks: Tasks, options: argparse.Namespace) -> int:
    stats, workers = tasks.stats(), tasks._admin.workers()
    if options.json:
        print(json.dumps({"queues": stats, "workers": workers}))
        return 0
    shown = ("queued", "scheduled", "waiting", "running", "total_succeeded", "total_failed")
    print(f"{'queue':<20}" + "".join(f"{name.removeprefix('total_'):>11}" for name in shown))
    for name, queue in stats.items():
        limit = "" if queue["concurrency"] is None else f"  at most {queue['concurrency']} at a time"
        paused = "  paused" if queue["paused"] else ""
        print(f"{_line(name, 20):<20}" + "".join(f"{queue[each]:>11}" for each in shown) + limit + paused)
    for worker in workers:
        print(
            f"worker {worker['id']} {_line(worker['name'], 60)} (process {worker['pid']}): "
            f"{worker['running']} jobs, since {_time(worker['since'])}"
        )
    return 0


_COMMANDS = {
    "list": _list,
    "show": _show,
    "retry": _retry,
    "cancel": _cancel,
    "purge": _purge,
    "stats": _stats,
}
