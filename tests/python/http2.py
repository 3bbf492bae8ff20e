"""A client of HTTP/2 for tests, over the library h2: it sends what it is told, and gathers what comes."""

import contextlib
import socket
import ssl
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.settings
from serving import WAIT

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Answer:
    """What has come of a response."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        """Its status."""
        return int(self.headers[":status"])


class Client:
    """One connection. Requests are sent at once, answers read when they are asked for."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, *, window: int = 1 << 24) -> None:
        """Connect, by prior knowledge, or by ALPN in that context; `window`: for all streams together."""
        raw = socket.create_connection(("127.0.0.1", port), timeout=WAIT)
        if context:
            context.set_alpn_protocols(["h2", "http/1.1"])
            tls = context.wrap_socket(raw, server_hostname="localhost")
            assert tls.selected_alpn_protocol() == "h2"
            raw = tls
        self.socket = raw
        self.scheme = "https" if context else "http"
        config = h2.config.H2Configuration(
            client_side=True,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.answers: dict[int, Answer] = defaultdict(Answer)
        self.gone_away: int | None = None
        """The code of GOAWAY, once it has come."""
        self.last_stream = 0
        self.ended = False
        """The server has closed the connection."""
        self.acknowledge = True
        """Whether what has come is answered: settings, pings, and room for more data."""
        self._incoming = bytearray()
        self.h2.initiate_connection()
        if window > 65535:
            self.h2.increment_flow_control_window(window - 65535)
        self.flush()

    def flush(self) -> None:
        """Send what is to be sent."""
        data = self.h2.data_to_send()
        if data:
            self.socket.sendall(data)

    def request(
        self,
        path: str = "/",
        *headers: tuple[str, str],
        method: str = "GET",
        authority: str | None = "example.org",
        end: bool = True,
    ) -> int:
        """Send the head of a request; return its stream."""
        stream = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", self.scheme), (":path", path)]
        if authority is not None:
            pseudo.append((":authority", authority))
        self.h2.send_headers(stream, [*pseudo, *headers], end_stream=end)
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send a body, as the server takes it."""
        while data:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data))
            if room:
                self.h2.send_data(stream, data[:room])
                data = data[room:]
                self.flush()
            else:
                self.receive()
        if end:
            self.h2.end_stream(stream)
            self.flush()

    def receive(self) -> None:
        """Read something, and take it in."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        if not data:
            self.ended = True
            return
        self._incoming += data
        # One by one: to the library nothing may follow GOAWAY, and yet the last responses do.
        while len(self._incoming) >= 9:
            length = 9 + int.from_bytes(self._incoming[:3])
            if len(self._incoming) < length:
                break
            whole = bytes(self._incoming[:length])
            del self._incoming[:length]
            self._take_frame(whole)
        if self.acknowledge:
            with contextlib.suppress(ConnectionError):
                self.flush()

    def _take_frame(self, whole: bytes) -> None:
        stream = int.from_bytes(whole[5:9])
        if stream > max(self.h2.highest_outbound_stream_id, 0):
            # One that was opened past the library.
            answer = self.answers[stream]
            if whole[3] == 1:
                answer.headers = {str(name): str(value) for name, value in self.h2.decoder.decode(whole[9:])}
            elif whole[3] == 3:
                answer.reset = int.from_bytes(whole[9:])
            return
        for event in self.h2.receive_data(whole):
            self._take(event)

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived(stream_id=int(stream), headers=headers):
                self.answers[stream].headers = {str(name): str(value) for name, value in headers or ()}
            case h2.events.DataReceived(stream_id=int(stream), data=data, flow_controlled_length=length):
                self.answers[stream].body += data or b""
                if length and self.acknowledge:
                    self.h2.acknowledge_received_data(length, stream)
            case h2.events.StreamEnded(stream_id=int(stream)):
                self.answers[stream].ended = True
            case h2.events.StreamReset(stream_id=int(stream), error_code=code):
                self.answers[stream].reset = int(code or 0)
            case h2.events.ConnectionTerminated(error_code=code, last_stream_id=last):
                self.gone_away = int(code or 0)
                self.last_stream = last or 0
                self.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN

    def answer(self, stream: int) -> Answer:
        """Wait for all of a response, or its reset."""
        answer = self.answers[stream]
        while not answer.ended and answer.reset is None:
            assert not self.ended, "the server has closed the connection"
            self.receive()
        return answer

    def head(self, stream: int) -> Answer:
        """Wait for the head of a response."""
        while not self.answers[stream].headers:
            assert not self.ended, "the server has closed the connection"
            self.receive()
        return self.answers[stream]

    def get(self, path: str = "/", *headers: tuple[str, str], method: str = "GET") -> Answer:
        """Make a request, and wait for its response."""
        return self.answer(self.request(path, *headers, method=method))

    def wait_for_end(self) -> None:
        """Read until the server closes the connection."""
        while not self.ended:
            self.receive()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


@contextlib.contextmanager
def connected(port: int, context: ssl.SSLContext | None = None, *, window: int = 1 << 24) -> Iterator[Client]:
    """Connect for a while."""
    with contextlib.closing(Client(port, context, window=window)) as client:
        yield client


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write a frame down."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
