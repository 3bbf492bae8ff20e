"""A small Django site in one module: models, middleware, views. Run by tests/python/test_serve_django.py."""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="key",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        f"{__name__}.remember",
    ],
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.sessions"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["SITE_DATABASE"],
            "OPTIONS": {"timeout": 60, "transaction_mode": "IMMEDIATE"},
        }
    },
    USE_I18N=True,
    LANGUAGE_CODE="en",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    FILE_UPLOAD_MAX_MEMORY_SIZE=10_000,
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone, translation  # noqa: E402

here = threading.local()


class Count(models.Model):
    """A number with a name."""

    name = models.CharField(max_length=20, unique=True)
    value = models.IntegerField(default=0)

    class Meta:
        """This module is its application."""

        app_label = "contenttypes"


def remember(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Keep the request's path where applications of old keep such things."""

    def middleware(request: HttpRequest) -> HttpResponse:
        assert not hasattr(here, "path"), "what another request has left"
        here.path = request.path
        response = get_response(request)
        response["X-Path"] = here.path
        return response

    return middleware


def page(request: HttpRequest, name: str) -> HttpResponse:
    """Render a template."""
    template = engines["django"].from_string("<p>{{ name }}: {% for n in numbers %}{{ n }} {% endfor %}</p>")
    return HttpResponse(template.render({"name": name, "numbers": range(3)}))


def add(request: HttpRequest, name: str) -> JsonResponse:
    """Add one, in a transaction, and fail now and then."""
    try:
        with transaction.atomic():
            count, _ = Count.objects.get_or_create(name=name)
            before = count.value
            # Others wait for this transaction meanwhile, parked.
            time.sleep(0.001)
            count.value = before + 1
            count.save()
            if request.GET.get("fail"):
                raise LookupError
    except LookupError:
        return JsonResponse({"failed": True}, status=409)
    return JsonResponse({"value": count.value})


def counts(request: HttpRequest) -> JsonResponse:
    """Give all of them."""
    return JsonResponse(dict(Count.objects.values_list("name", "value")))


def state(request: HttpRequest, number: int) -> JsonResponse:
    """Have a language, a time zone and a connection of its own, whoever else is at it meanwhile."""
    language = ("de", "fr", "en", "es")[number % 4]
    zone = ("UTC", "Europe/Berlin")[number % 2]
    seen = set()
    with translation.override(language), timezone.override(zone):
        connection.ensure_connection()
        first = id(connection.connection)
        for _ in range(5):
            time.sleep(0.001)
            same = id(connection.connection) == first
            seen.add((translation.get_language(), timezone.get_current_timezone_name(), here.path, same))
    return JsonResponse({"ok": seen == {(language, zone, request.path, True)}, "connection": first})


def visits(request: HttpRequest) -> JsonResponse:
    """Count in a session, which is in the database."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Read rows while they are sent."""

    def rows() -> Iterator[str]:
        for count in Count.objects.order_by("name").iterator(chunk_size=2):
            time.sleep(0.001)
            yield f"{count.name}={count.value}\n"

    return StreamingHttpResponse(rows(), content_type="text/plain")


def upload(request: HttpRequest) -> JsonResponse:
    """Take a file, by way of a temporary one."""
    file: Any = request.FILES["file"]
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    return JsonResponse({"name": file.name, "size": file.size, "sha256": digest.hexdigest()})


def fail(request: HttpRequest) -> HttpResponse:
    """Fail."""
    raise LookupError("on purpose")


urlpatterns = [
    path("page/<str:name>", page),
    path("add/<str:name>", add),
    path("counts", counts),
    path("state/<int:number>", state),
    path("visits", visits),
    path("stream", stream),
    path("upload", upload),
    path("fail", fail),
]


def create() -> Any:
    """Make the tables, and the application."""
    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        if Count._meta.db_table not in connection.introspection.table_names():
            editor.create_model(Count)
    connection.close()
    return get_wsgi_application()
