"""The rendezvous address of a run's pods: the first node's. The others reach it by its name in the cluster's DNS, else by the
address in its marker in the attempt's folder. The first node uses that address itself, and needs no DNS."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from launcher.job.topology import RENDEZVOUS, Node
from launcher.runs.run_dir import RunDir

from ...output import notices

_LOOK: Final = 0.5  # seconds between two looks
_DNS: Final = 20.0  # seconds in which the cluster's DNS may come to know a name


def own_address() -> str:
    """This machine's address in its hosts file, where the kubelet writes a pod's; empty if others cannot reach it.

    IPv4 where the pod has one, else IPv6.
    """
    with suppress(OSError, ValueError):
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(address[0]) for *_, address in found]
        reached = [one for one in addresses if not one.is_loopback and not one.is_link_local]
        return str(min(reached, key=lambda one: one.version, default=""))
    return ""


def marker_of(run: RunDir, attempt: int, node: int) -> Path:
    """The marker of ``node`` in ``attempt``, a file with its address."""
    return run.attempt(attempt) / f"node-{node}"


def meet(run: RunDir, attempt: int, node: Node, is_stop_wanted: Callable[[], bool], patience: float = RENDEZVOUS) -> Node:
    """``node`` with the address of the first node: its name, unless DNS does not know that.

    Waits until either is known, ``patience`` is over or a stop is requested.
    """
    assert node.address is not None, "there are several nodes"
    left = marker_of(run, attempt, 0)
    if node.rank == 0:
        return replace(node, address=_read(left) or node.address)
    known, is_over = threading.Event(), threading.Event()
    # A server that does not answer holds a lookup for many seconds, in which a stop would not be heard.
    threading.Thread(target=_resolve, args=(node.address, known, is_over), daemon=True).start()
    began = time.monotonic()
    try:
        while not known.wait(_LOOK):
            waited = time.monotonic() - began
            if waited >= _DNS and (address := _read(left)):
                notices([f"{node.address} is not in the cluster's DNS: connecting to node 0 at {address}"])
                return replace(node, address=address)
            if is_stop_wanted() or waited >= patience:
                break
    finally:
        is_over.set()
    return node


def _read(mark: Path) -> str:
    try:
        return mark.read_text(encoding="utf-8").strip()
    except OSError:  # it has not come yet, or the volume stumbles
        return ""


def _resolve(name: str, known: threading.Event, is_over: threading.Event) -> None:
    while not is_over.is_set():
        try:
            socket.getaddrinfo(name, None)
        except OSError:
            is_over.wait(_LOOK)
        else:
            known.set()
            return
