"""A site with background jobs, web and jobs in one process: texts are uploaded, and their words counted.

usage: roving serve words_site:app --tasks words_site:tasks, in this folder; WORDS_FOLDER says where texts and
jobs are kept (a folder of the temporary ones).

A text is on disk, and so is the job that counts it, before its visitor sees the page that waits for the
result. Kill the process as a count runs, start it again, and the count is done anew.
"""

import json
import os
import random
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import roving
from flask import Flask, Response, abort, redirect, render_template_string, request, url_for
from roving.tasks import Attempt, Job, Tasks, UnknownJob

FOLDER = Path(os.environ.get("WORDS_FOLDER", Path(tempfile.gettempdir()) / "roving-words"))
FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
PIECE = 1 << 16
LARGEST = 64 << 20

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = LARGEST
tasks = Tasks(f"sqlite:{FOLDER / 'jobs.db'}")
# How far each count is. Jobs and requests share the memory of the process: nothing is sent anywhere.
progress: dict[str, tuple[int, int]] = {}


@tasks.task(bind=True, retries=2, timeout=600, keep_result=86_400)
def count(attempt: Attempt, path: str, name: str) -> dict[str, Any]:
    """Count the words of a file, and say meanwhile how far it is."""
    began = time.monotonic()
    words: Counter[str] = Counter()
    size = max(os.path.getsize(path), 1)
    done, rest = 0, ""
    with open(path, encoding="utf-8", errors="replace") as text:
        while piece := text.read(PIECE):
            done += len(piece.encode())
            progress[attempt.id] = (done, size)
            both = rest + piece
            cut = max(both.rfind(" "), both.rfind("\n")) + 1
            words.update(cleaned(both[:cut]))
            rest = both[cut:]
    words.update(cleaned(rest))
    del words[""]
    progress.pop(attempt.id, None)
    Path(path).unlink(missing_ok=True)
    return {
        "name": name,
        "bytes": done,
        "words": words.total(),
        "different": len(words),
        "most": words.most_common(20),
        "seconds": round(time.monotonic() - began, 3),
    }


def cleaned(text: str) -> Iterator[str]:
    """Give the words of a text."""
    return (word.strip(".,;:!?\"'()").lower() for word in text.split())


def sample() -> bytes:
    """Make up a text of some megabytes."""
    chance = random.Random()
    known = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(5_000)]
    weights = [1 / (rank + 1) for rank in range(len(known))]
    return " ".join(chance.choices(known, weights, k=1_000_000)).encode()


@app.get("/")
def index() -> str:
    """Show the form, and the jobs there are."""
    return render_template_string(INDEX, jobs=tasks.jobs(limit=20))


@app.post("/count")
def upload() -> Any:
    """Take texts, and have their words counted."""
    jobs = []
    given = [(file.filename or "a text", file.stream.read()) for file in request.files.getlist("texts")]
    if request.form.get("text"):
        given.append(("a text", request.form["text"].encode()))
    if "sample" in request.form:
        given = [("a sample", sample())]
    for name, text in given:
        if text:
            path = FOLDER / f"{uuid.uuid4()}.txt"
            path.write_bytes(text)
            jobs.append(count.delay(str(path), name[:100]))
    if len(jobs) == 1:
        return redirect(url_for("show", id=jobs[0].id), 303)
    return redirect(url_for("index"), 303)


@app.get("/jobs/<id>")
def show(id: str) -> str:
    """Show one count."""
    return render_template_string(SHOW, job=described(found(id)))


@app.get("/jobs/<id>/events")
def events(id: str) -> Response:
    """Tell how a count goes on, until it ends: a fiber for each visitor who looks."""
    job = found(id)

    def lines() -> Iterator[str]:
        while True:
            state = described(job)
            yield f"data: {json.dumps(state)}\n\n"
            if state["ended"]:
                return
            roving.sleep(0.1)

    return Response(lines(), mimetype="text/event-stream", headers={"Cache-Control": "no-store"})


@app.post("/jobs/<id>/cancel")
def cancel(id: str) -> Any:
    """Stop a count."""
    found(id).cancel()
    return redirect(url_for("show", id=id), 303)


def found(id: str) -> Job:
    """Find a job, or answer 404."""
    try:
        job = tasks.job(id)
        _ = job.status
        return job
    except (UnknownJob, ValueError):
        abort(404)


def described(job: Job) -> dict[str, Any]:
    """Say all that the pages show of a job."""
    state = job.state()
    done, size = progress.get(job.id, (0, 1))
    return {
        "id": job.id,
        "status": state.status,
        "ended": state.finished,
        "percent": 100 if state.status == "succeeded" else min(done * 100 // size, 100),
        "result": job.result if state.status == "succeeded" else None,
        "error": state.error,
    }


STYLE = """
<!doctype html><html lang="en"><meta charset="utf-8"><title>Words</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --line: #8884; --accent: #2a7d6b; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem } a { color: var(--accent) }
form, article { border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; margin: 1rem 0 }
textarea { width: 100%; min-height: 6rem; box-sizing: border-box; font: inherit }
button { font: inherit; padding: .3rem .9rem; border-radius: .4rem; border: 1px solid var(--line) }
button.first { background: var(--accent); color: white; border-color: transparent }
table { border-collapse: collapse; width: 100% } td, th { padding: .3rem .4rem; text-align: left }
tr + tr { border-top: 1px solid var(--line) }
.number { text-align: right; font-variant-numeric: tabular-nums }
progress { width: 100%; height: 1rem; accent-color: var(--accent) }
.row { display: flex; gap: .6rem; flex-wrap: wrap; margin-top: .6rem; align-items: center }
</style>
"""

INDEX = (
    STYLE
    + """
<h1>Count words</h1>
<p>Texts are counted by background jobs of the process that serves this page.</p>
<form method="post" action="{{ url_for('upload') }}" enctype="multipart/form-data">
  <input type="file" name="texts" multiple accept="text/*">
  <p><textarea name="text" placeholder="or put a text here"></textarea></p>
  <div class="row"><button class="first">Count</button>
  <button name="sample" value="1">Try with a million made-up words</button></div>
</form>
{% if jobs %}<table><tr><th>since<th>status<th class="number">attempts</tr>
{% for job in jobs %}<tr><td><a href="{{ url_for('show', id=job.id) }}">
{{ job.enqueued_at.strftime("%d %b, %H:%M:%S") }}</a>
<td>{{ job.status }}<td class="number">{{ job.attempts }}</tr>
{% endfor %}</table>{% endif %}
"""
)

SHOW = (
    STYLE
    + """
<p><a href="{{ url_for('index') }}">All texts</a></p>
<h1 id="name">{{ job.result.name if job.result else "A text" }}</h1>
<article><div class="row"><b id="status">{{ job.status }}</b>
{% if not job.ended %}<form style="border:0;margin:0;padding:0" method="post"
 action="{{ url_for('cancel', id=job.id) }}"><button>Cancel</button></form>{% endif %}</div>
<progress id="progress" max="100" value="{{ job.percent }}"></progress>
{% if job.error %}<p>{{ job.error }}</p>{% endif %}</article>
{% if job.result %}
<p>{{ "{:,}".format(job.result.words) }} words, {{ "{:,}".format(job.result.different) }} different ones, in
{{ "{:,}".format(job.result.bytes) }} bytes; counted in {{ job.result.seconds }} s.</p>
<table><tr><th>word<th class="number">times</tr>
{% for word, times in job.result.most %}<tr><td>{{ word }}<td class="number">{{ "{:,}".format(times) }}</tr>
{% endfor %}</table>
{% endif %}
{% if not job.ended %}<script>
const source = new EventSource("{{ url_for('events', id=job.id) }}");
source.onmessage = (event) => {
  const job = JSON.parse(event.data);
  document.getElementById("status").textContent = job.status;
  document.getElementById("progress").value = job.percent;
  if (job.ended) { source.close(); location.reload(); }
};
</script>{% endif %}
"""
)
