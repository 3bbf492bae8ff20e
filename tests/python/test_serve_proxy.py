"""What trusted proxies say of clients, and what anybody else says."""

import contextlib
import json
from pathlib import Path

import pytest
import roving
from serving import Client, Environ, Serving, StartResponse
from serving import quiet_log as quiet_log

pytestmark = pytest.mark.usefixtures("quiet_log")

ALL = "x-forwarded-for,x-forwarded-proto,x-forwarded-host,x-forwarded-prefix"
SAID = (
    "X-Forwarded-For: 6.6.6.6, 1.2.3.4",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: shop.example:8443",
    "X-Forwarded-Prefix: /shop",
    "Forwarded: for=7.7.7.7;proto=https;host=evil.example",
)
KEYS = ("REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme", "HTTP_HOST", "SCRIPT_NAME", "PATH_INFO")


def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
    """Say where the request comes from."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([environ[key] for key in KEYS]).encode()]


def ask(*headers: str, **options: object) -> list[str]:
    """Ask a server with these options; the port of who is not behind a proxy is left out."""
    with Serving(application, **options) as server, contextlib.closing(server.client()) as client:
        port = client.socket.getsockname()[1]
        found = json.loads(client.get("/a%20b?q", *headers).body)
    return ["-" if value == str(port) else value for value in found]


PLAIN = ["127.0.0.1", "-", "http", "example.org", "", "/a b"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"trusted_proxy_headers": ALL},
        {"forwarded_allow_ips": ""},
        {"forwarded_allow_ips": "10.0.0.0/8, ::1, unix", "trusted_proxy_headers": ALL},
        {"forwarded_allow_ips": "*", "proxy_headers": False},
    ],
)
def test_who_is_not_trusted_says_nothing(options: dict[str, object]) -> None:
    """Nobody is, unless it is said; the fields are the application's to see, as all are."""
    assert ask(*SAID, **options) == PLAIN


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "*", "10.0.0.1 127.0.0.1"])
def test_who_is_trusted(allowed: str) -> None:
    """By default in two fields; in the others if it is said."""
    found = ask(*SAID, forwarded_allow_ips=allowed)
    assert found == ["1.2.3.4", "", "https", "example.org", "", "/a b"]
    found = ask(*SAID, forwarded_allow_ips=allowed, trusted_proxy_headers=ALL)
    assert found == ["1.2.3.4", "", "https", "shop.example:8443", "/shop", "/a b"]
    found = ask(*SAID, forwarded_allow_ips=allowed, trusted_proxy_headers="forwarded")
    assert found == ["7.7.7.7", "", "https", "evil.example", "", "/a b"]


def test_several_proxies() -> None:
    """The first that is not trusted is the client, whatever it says of others."""
    chain = "6.6.6.6, 1.2.3.4:555, 10.0.0.2, 10.0.0.1"
    found = ask(f"X-Forwarded-For: {chain}", forwarded_allow_ips="127.0.0.1, 10.0.0.0/8")
    assert found[:2] == ["1.2.3.4", "555"]
    assert ask(f"X-Forwarded-For: {chain}", forwarded_allow_ips="127.0.0.1")[0] == "10.0.0.1"
    found = ask(
        "X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 1.2.3.4", forwarded_allow_ips="127.0.0.1, 10.0.0.0/8"
    )
    assert found[0] == "1.2.3.4"


def test_a_field_with_an_underscore_is_none() -> None:
    """It has the same key in the environ, and is dropped."""
    assert ask("X_Forwarded_For: 6.6.6.6", "X_Forwarded_Proto: https", forwarded_allow_ips="*") == PLAIN


def test_the_malformed_is_ignored_and_told() -> None:
    """Each field for itself; and the application goes by what is left."""
    with Serving(application, forwarded_allow_ips="*", trusted_proxy_headers=ALL) as server:
        found = json.loads(server.get("/", "X-Forwarded-For: 1.2.3.4, <b>", "X-Forwarded-Proto: https").body)
        assert (found[0], found[2]) == ("127.0.0.1", "https")
        (line,) = server.logged(1)
        assert line == (
            "of a request from the proxy 127.0.0.1 x-forwarded-for was ignored: "
            "it has something that is no address"
        )
        for wrong in (
            "X-Forwarded-Proto: gopher",
            "X-Forwarded-Host: a@b",
            "X-Forwarded-Prefix: //evil.example",
            "X-Forwarded-Prefix: /a/../..",
        ):
            found = json.loads(server.get("/", wrong).body)
            assert [found[0], *found[2:]] == ["127.0.0.1", "http", "example.org", "", "/"]


def test_where_the_application_is_mounted_comes_behind_the_proxy_s() -> None:
    """SCRIPT_NAME has both."""
    with Serving(
        application, forwarded_allow_ips="*", trusted_proxy_headers="x-forwarded-prefix", root_path="/mounted"
    ) as server:
        found = json.loads(server.get("/mounted/x", "X-Forwarded-Prefix: /shop/").body)
        assert found[4:] == ["/shop/mounted", "/x"]


def test_a_unix_socket(tmp_path: Path) -> None:
    """Whoever connects there has no address: it is trusted by its own name."""
    for allowed, host in (("unix", "1.2.3.4"), ("127.0.0.1", "")):
        with (
            roving.serve(application, bind=f"unix:{tmp_path}/socket", forwarded_allow_ips=allowed),
            contextlib.closing(Client(f"{tmp_path}/socket")) as client,
        ):
            assert json.loads(client.get("/", *SAID).body)[0] == host


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"forwarded_allow_ips": "10.0.0.1/8"}, "'10.0.0.1/8' is no network|\"10.0.0.1/8\" is no network"),
        ({"forwarded_allow_ips": "localhost"}, '"localhost" is neither an address, nor a network'),
        ({"forwarded_allow_ips": "*", "trusted_proxy_headers": "x-real-ip"}, '"x-real-ip" is none of'),
        (
            {"forwarded_allow_ips": "*", "trusted_proxy_headers": "forwarded,x-forwarded-for"},
            "only what it sets can be trusted",
        ),
    ],
)
def test_mistakes(options: dict[str, object], text: str) -> None:
    """They are found when the server begins."""
    with pytest.raises(ValueError, match=text):
        roving.serve(application, bind="127.0.0.1:0", **options)
