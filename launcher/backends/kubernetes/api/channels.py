"""Commands and ports of a pod over WebSockets: the channels of `exec`, and the official client's port-forward."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from socket import SHUT_RDWR
from typing import Any, Final
from urllib.parse import urlencode

from .errors import ClusterError, ExecError

_OUT, _ERR, _STATUS, _SIZE = 1, 2, 3, 4
_CONNECT: Final = 30.0  # seconds until a WebSocket is open
_SILENCE: Final = 20.0  # seconds without a frame, until a ping is sent
_PINGS: Final = 6  # unanswered, until the connection counts as lost
_CHUNK: Final = 64 * 1024  # bytes per frame
_TIDY: Final = 10.0  # seconds that a command gets to exit after its input has failed


def run(
    configuration: Any,
    headers: Mapping[str, str],
    url: str,
    container: str,
    command: Sequence[str],
    stdin: Iterable[bytes] | None,
    where: str,
) -> Iterator[bytes]:
    """Standard output of ``command``, in pieces. ``stdin`` is sent at the same time; its end is sent only if the server supports
    that (v5 of the protocol), and a command must not depend on it. Raises ExecError for an exit code other than 0, and what
    ``stdin`` raised: after the command's end, if the server can be told of it."""
    query = [("command", word) for word in command]
    query += [("container", container), ("stdout", "true"), ("stderr", "true"), ("stdin", str(stdin is not None).lower())]
    socket = _open(configuration, headers, f"{url}?{urlencode(query)}")
    errors, status, failed, ended = bytearray(), b"", list[Exception](), threading.Event()
    try:
        if stdin is not None:
            threading.Thread(target=_send, args=(socket, stdin, failed, ended), daemon=True).start()
        for channel, data in _frames(socket, where):
            if channel == _OUT:
                yield data
            elif channel == _ERR:
                errors += data
            elif channel == _STATUS:
                status += data
                break
        code = _code(status, where)
    except ClusterError:
        if failed:  # the input could not be read
            raise failed[0] from None
        raise
    finally:
        ended.set()
        socket.shutdown()
    if failed:
        raise failed[0]
    if code:
        raise ExecError(where, code, errors.decode("utf-8", "replace"))


class Attached:
    """A command in a container with its input and output, and with a terminal if ``tty``. One thread sends, another reads."""

    def __init__(
        self,
        configuration: Any,
        headers: Mapping[str, str],
        url: str,
        container: str,
        command: Sequence[str],
        *,
        tty: bool,
        where: str,
    ):
        from kubernetes.stream.ws_client import V5_CHANNEL_PROTOCOL

        query = [("command", word) for word in command] + [("container", container), ("stdin", "true"), ("stdout", "true")]
        query += [("tty", "true")] if tty else [("stderr", "true")]  # a terminal has one output
        self._socket, self._where, self._status = _open(configuration, headers, f"{url}?{urlencode(query)}"), where, b""
        self._tells_end = self._socket.getheaders().get("sec-websocket-protocol") == V5_CHANNEL_PROTOCOL

    def send(self, data: bytes) -> None:
        self._frame(b"\0" + data)

    def end(self) -> None:
        """Up to v4 the protocol cannot tell the end: the command waits for more."""
        if self._tells_end:
            self._frame(b"\xff\0")

    def resize(self, columns: int, rows: int) -> None:
        self._frame(bytes([_SIZE]) + json.dumps({"Width": columns, "Height": rows}).encode())

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """(1 for standard output or 2 for standard error, a piece) to the command's end. Raises ClusterError if the connection
        breaks."""
        for channel, data in _frames(self._socket, self._where):
            if channel in (_OUT, _ERR):
                yield channel, data
            elif channel == _STATUS:
                self._status = data
                return

    def code(self) -> int:
        """The exit code; raises ClusterError if the command was not started."""
        return _code(self._status, self._where)

    def close(self) -> None:
        self._socket.shutdown()

    def _frame(self, data: bytes) -> None:
        from websocket import WebSocketException

        with suppress(OSError, WebSocketException, AttributeError):  # closed: the reader knows why
            self._socket.send_binary(data)


def forward(configuration: Any, headers: Mapping[str, str], url: str, port: int) -> Any:
    """A socket whose other end is ``port`` of a pod."""
    from kubernetes.stream.ws_client import PortForward

    return PortForward(_open(configuration, headers, f"{url}?ports={port}"), [port]).socket(port)


def _open(configuration: Any, headers: Mapping[str, str], url: str) -> Any:
    """A connected WebSocket; raises OSError or the errors of websocket."""
    import websocket
    from kubernetes.stream.ws_client import create_websocket, get_websocket_url

    websocket.setdefaulttimeout(_CONNECT)
    socket = create_websocket(configuration, get_websocket_url(url), dict(headers))
    socket.settimeout(None)
    return socket


def _send(socket: Any, stdin: Iterable[bytes], failed: list[Exception], ended: threading.Event) -> None:
    """Sends ``stdin``. If reading it fails, adds the exception to ``failed``, ends the command's input, gives the command time to
    clean up until ``ended``, and closes the connection."""
    from kubernetes.stream.ws_client import V5_CHANNEL_PROTOCOL
    from websocket import WebSocketException

    connection = socket.sock  # the WebSocket drops it when it is closed
    tells_end = socket.getheaders().get("sec-websocket-protocol") == V5_CHANNEL_PROTOCOL
    pieces = iter(stdin)
    while True:
        try:
            piece = next(pieces, None)
        except Exception as error:
            failed.append(error)
            with suppress(OSError, WebSocketException):
                if tells_end:
                    socket.send_binary(b"\xff\0")
                    ended.wait(_TIDY)
            with suppress(OSError):
                connection.shutdown(SHUT_RDWR)  # only this wakes a reader that waits for a frame
            return
        # A command may exit before it has read everything; its exit code tells whether that is an error.
        with suppress(OSError, WebSocketException):
            if piece is not None:
                for begin in range(0, len(piece), _CHUNK):
                    socket.send_binary(b"\0" + piece[begin : begin + _CHUNK])
                continue
            if tells_end:
                socket.send_binary(b"\xff\0")
        return


def _frames(socket: Any, where: str) -> Iterator[tuple[int, bytes]]:
    """(channel, data) until the other side closes."""
    import websocket

    socket.settimeout(_SILENCE)
    unanswered = 0
    while True:
        try:
            opcode, frame = socket.recv_data_frame(True)
        except websocket.WebSocketTimeoutException:
            unanswered += 1
            if unanswered > _PINGS:
                raise ClusterError(f"{where}: no answer from the pod") from None
            socket.ping()
            continue
        except (OSError, websocket.WebSocketException) as error:
            raise ClusterError(f"{where}: connection lost: {error}") from error
        unanswered = 0
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return
        if opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) and len(frame.data) > 1:
            yield frame.data[0], bytes(frame.data[1:])


def _code(status: bytes, where: str) -> int:
    """The exit code in the last frame; raises ClusterError without one, or if the command was not started."""
    if not status:
        raise ClusterError(f"{where}: connection lost before the command ended")
    said = json.loads(status)
    if said.get("status") == "Success":
        return 0
    causes = (said.get("details") or {}).get("causes") or []
    code = next((cause["message"] for cause in causes if cause.get("reason") == "ExitCode"), None)
    if code is None:
        raise ClusterError(f"{where}: {said.get('message') or 'not started'}")
    return int(code)
