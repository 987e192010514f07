"""What an API server passes on from a kubelet: logs, commands and ports of a pod."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from .logs import Log, rfc3339

REPOSITORY = Path(__file__).parents[2]
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
# (words of the command, standard input in pieces until its end or the command's) -> (exit code, stdout, stderr)
Command = Callable[[list[str], Iterator[bytes]], tuple[int, bytes, bytes]]


async def log(source: Log, *, follow: bool, since: float | None, tail: int | None, stamped: bool) -> AsyncIterator[bytes]:
    """The pieces of a log as they come; with ``follow`` until the container is over."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        with suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(news.set)

    source.listeners.append(tell)
    try:
        with source.lock:
            wanted = list(source.select(since=since, tail=tail, stamped=stamped))
            # Whole lines before, the last one perhaps in part: what comes now begins there.
            line = max(0, len(source.lines) - 1)
            sent = len(source.lines[line][1]) if source.lines else 0
        yield b"".join(wanted)
        if not follow:
            return
        while True:
            news.clear()
            ended = source.ended
            pieces = []
            with source.lock:
                for number in range(line, len(source.lines)):
                    stamp, text = source.lines[number]
                    begin = sent if number == line else 0
                    if begin == 0 and text and stamped:
                        pieces.append(rfc3339(stamp, source.zone).encode() + b" ")
                    pieces.append(text[begin:])
                    line, sent = number, len(text)
            if any(pieces):
                yield b"".join(pieces)
            if ended:
                return
            await news.wait()
    finally:
        source.listeners.remove(tell)


async def command(socket: web.WebSocketResponse, words: list[str], act: Command | Path, *, tty: bool = False) -> None:
    """Runs a command for `exec`: a function, or a process in the folder ``act``, which takes the place of the pod's root."""
    stdin: asyncio.Queue[bytes | None] = asyncio.Queue()
    terminal = pty.openpty() if tty else None
    reader = asyncio.create_task(_receive(socket, stdin, terminal))
    try:
        if terminal is not None:
            assert isinstance(act, Path)
            code = await _in_terminal(socket, words, act, stdin, terminal)
        elif isinstance(act, Path):
            code = await _process(socket, words, act, stdin)
        else:
            code = await _function(socket, words, act, stdin)
        await socket.send_bytes(b"\3" + json.dumps(_status(code)).encode())
    except ConnectionError:
        pass
    finally:
        reader.cancel()
        for end in terminal or ():
            with suppress(OSError):
                os.close(end)


async def port(socket: web.WebSocketResponse, number: int, local: int | None) -> None:
    """One connection to a port of a pod, which is ``local`` on this machine."""
    for channel in (0, 1):
        await socket.send_bytes(bytes([channel]) + number.to_bytes(2, "little"))
    try:
        if local is None:
            raise ConnectionRefusedError
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
    except OSError:
        await socket.send_bytes(b"\1" + f"error forwarding port {number} to pod: connection refused".encode())
        return

    async def out() -> None:
        while data := await reader.read(65536):
            await socket.send_bytes(b"\0" + data)
        await socket.close()

    task = asyncio.create_task(out())
    try:
        async for message in socket:
            if message.type == WSMsgType.BINARY and message.data[0] == 0:
                writer.write(message.data[1:])
                await writer.drain()
    finally:
        task.cancel()
        writer.close()


async def _receive(
    socket: web.WebSocketResponse, stdin: asyncio.Queue[bytes | None], terminal: tuple[int, int] | None = None
) -> None:
    async for message in socket:
        if terminal is not None and message.type == WSMsgType.BINARY and message.data[:1] == b"\4":
            size = json.loads(message.data[1:])
            fcntl.ioctl(terminal[0], termios.TIOCSWINSZ, struct.pack("HHHH", size["Height"], size["Width"], 0, 0))
        if message.type == WSMsgType.BINARY and message.data[:1] == b"\0":
            await stdin.put(message.data[1:])
        elif message.type == WSMsgType.BINARY and message.data == b"\xff\0":
            await stdin.put(None)
    await stdin.put(None)


async def _process(socket: web.WebSocketResponse, words: list[str], root: Path, stdin: asyncio.Queue[bytes | None]) -> int:
    shown = [re.sub(r"(?<![\w.])/(dpo|tmp)(?=/|$)", rf"{root}/\1", word) for word in words]
    if shown[0] in ("python", "python3"):
        shown[0] = sys.executable
    env = {"PATH": os.environ["PATH"], "HOME": str(root), "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(root / "tmp")}
    (root / "tmp").mkdir(exist_ok=True)
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *shown, stdin=pipe, stdout=pipe, stderr=pipe, cwd=root, env=env, start_new_session=True
        )
    except FileNotFoundError:
        await socket.send_bytes(b"\2" + f"exec: {words[0]}: executable file not found in $PATH".encode())
        return 127

    async def copy(channel: bytes, source: asyncio.StreamReader) -> None:
        while data := await source.read(32768):
            await socket.send_bytes(channel + data)

    async def feed(into: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while (data := await stdin.get()) is not None:
                into.write(data)
                await into.drain()
            into.close()

    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    feeding = asyncio.create_task(feed(process.stdin))
    try:
        await asyncio.gather(copy(b"\1", process.stdout), copy(b"\2", process.stderr))
        return await process.wait()
    finally:
        feeding.cancel()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _in_terminal(
    socket: web.WebSocketResponse,
    words: list[str],
    root: Path,
    stdin: asyncio.Queue[bytes | None],
    terminal: tuple[int, int],
) -> int:
    """A process whose input and output are one terminal, as with `tty=true`."""
    ours, its = terminal
    env = {"PATH": os.environ["PATH"], "HOME": str(root), "TERM": "xterm", "PS1": "$ "}
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=its,
        stdout=its,
        stderr=its,
        cwd=root,
        env=env,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C signals who reads this terminal
    )
    loop, out = asyncio.get_running_loop(), asyncio.Queue[bytes | None]()
    os.set_blocking(ours, False)

    def read() -> bool:
        with suppress(OSError):
            out.put_nowait(os.read(ours, 32768))
            return True
        return False

    async def write() -> None:
        while (data := await stdin.get()) is not None:
            os.write(ours, data)

    async def show() -> None:
        while (data := await out.get()) is not None:
            await socket.send_bytes(b"\1" + data)

    loop.add_reader(ours, read)
    _, showing = tasks = [asyncio.create_task(write()), asyncio.create_task(show())]
    try:
        code = await process.wait()
        while read():  # its last output
            pass
        out.put_nowait(None)
        await showing
        return code
    finally:
        loop.remove_reader(ours)
        for task in tasks:
            task.cancel()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def _function(socket: web.WebSocketResponse, words: list[str], act: Command, stdin: asyncio.Queue[bytes | None]) -> int:
    loop = asyncio.get_running_loop()

    def pieces() -> Iterator[bytes]:
        while (data := asyncio.run_coroutine_threadsafe(stdin.get(), loop).result()) is not None:
            yield data

    code, out, err = await asyncio.to_thread(act, words, pieces())
    for channel, data in ((b"\1", out), (b"\2", err)):
        for begin in range(0, len(data), 32768):
            await socket.send_bytes(channel + data[begin : begin + 32768])
    return code


def _status(code: int) -> dict[str, Any]:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
