"""What lies between this machine and a server: proxies, certificates, and two clocks. Pure; the words are the same everywhere."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined] # typeshed has it not

SKEW: Final = 300.0  # seconds that a clock may be off: Google's limit; S3's is 900
PROXY_PASSWORD: Final = "the proxy asks for a user and a password; put them into its address (http://user:password@host)"

# Words in an error of OpenSSL -> what they mean.
_CERTIFICATES: Final = (
    (r"not yet valid", "the certificate is not valid yet; check this machine's clock, which shows {now}"),
    (r"certificate has expired", "the certificate has expired; check this machine's clock, which shows {now}"),
    (r"self.signed|unable to get (?:local )?issuer", "the certificate's issuer is not trusted"),
    (r"doesn't match|[Hh]ostname mismatch|IP address mismatch", "the certificate is for another host"),
    (r"CERTIFICATE_VERIFY_FAILED|certificate verify failed", "the certificate is not trusted"),
)


def shown(url: str) -> str:
    """``scheme://host:port`` of ``url``, without user and password."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" if parts.scheme else host


def proxy_for(url: str, env: Mapping[str, str]) -> str | None:
    """The proxy that ``env`` names for ``url``, without its password; None for a direct connection."""
    proxy = proxy_address(url, env)
    return None if proxy is None else shown(proxy)


def proxy_address(url: str, env: Mapping[str, str]) -> str | None:
    """The whole address of that proxy, with its password."""
    parts = urlsplit(url)
    no = env.get("no_proxy") or env.get("NO_PROXY") or ""
    if not parts.hostname or proxy_bypass_environment(parts.netloc.rpartition("@")[2], {"no": no}):
        return None
    names = (f"{parts.scheme}_proxy", f"{parts.scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    return next((env[name] for name in names if env.get(name)), None)


def notify_problem(name: str, value: str) -> str | None:
    """What is wrong with the ``value`` of ``notify``'s variable ``name``; it is not shown, as the address is a secret."""
    if not value:
        return f"notify: {name} is not set in .env or the environment"
    try:
        parts = urlsplit(value.strip())
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return f"notify: the value of {name} must be an address that begins with https:// or http://"
    return None


def through(url: str, env: Mapping[str, str]) -> str:
    """`` through proxy http://…``, or empty for a direct connection."""
    proxy = proxy_for(url, env)
    return "" if proxy is None else f" through proxy {proxy}"


def reason(words: str) -> str:
    """What a message of the system or of a client's library means, in a few words."""
    for pattern, meaning in _REASONS:
        if re.search(pattern, words, re.IGNORECASE):
            return meaning
    return re.sub(r"^\[(?:Errno|WinError) -?\d+\] ", "", " ".join(words.split())) or "no answer"


_REASONS: Final = (
    (r"connection refused|Errno 111\b", "connection refused"),
    (r"name or service not known|name resolution|nodename nor servname|getaddrinfo|no address associated|unknown host",
     "unknown host name (DNS)"),
    (r"timed? ?out|timeout", "timeout"),
    (r"no route to host", "no route to host"),
    (r"network is unreachable", "network is unreachable"),
    (r"reset by peer|server disconnected|connection (?:was )?(?:closed|aborted|broken)|remote end closed|incomplete|EOF",
     "connection lost"),
)  # fmt: skip


def certificate(words: str) -> str | None:
    """What a refused certificate means; None for an error of another kind."""
    meaning = next((meaning for pattern, meaning in _CERTIFICATES if re.search(pattern, words)), None)
    return None if meaning is None else meaning.format(now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))


def skew(date: str | None) -> float | None:
    """Seconds that this machine's clock is ahead of a server's ``Date`` header; None without a valid one."""
    try:
        return None if date is None else time.time() - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return None


def wrong_clock(ahead: float | None, whose: str, said: str) -> str:
    """The sentence for a request that was refused because of the clock. ``ahead``: see :func:`skew`; ``said``: the server's."""
    hint = "    hint:     set the clock (timedatectl set-ntp true)"
    if ahead is None or abs(ahead) < 1:
        return f"the server rejects this machine's clock: {said}\n{hint}"
    side = "ahead of" if ahead > 0 else "behind"
    there = datetime.fromtimestamp(time.time() - ahead, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"this machine's clock is {span(abs(ahead))} {side} {whose} ({there}): {said}\n{hint}"


def span(seconds: float) -> str:
    """``40 s``, ``20 min``, ``5.0 h``, ``3 days``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.0f} days"
