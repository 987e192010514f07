"""Redaction: the one place that hides secrets, in logs, errors, records and everything else that is shown or kept.

A value is secret by the name of its variable (``HF_TOKEN``), because an experiment names it in launch.secrets or notify, or
because it is a file of DPO_SECRETS. What no variable holds, such as the credentials of a role, is recognised by its form.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TextIO

SECRET: Final = re.compile(r"(?i)(secret|token|password|passwd|private_?key|credential|api_?key|access_?key|webhook)")
# Names for the place of a secret, and names that only sound like one.
_HARMLESS: Final = re.compile(r"(?i)(^DPO_|^TOKENIZERS_|_(FILE|PATH|DIR)$|(?<!webhook)_(URI|URL)$)")
_SHORTEST: Final = 6  # characters; a shorter value occurs in harmless words
_LINE: Final = 16  # characters of a line of a key

_PEM: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)(?:-----END|\Z)", re.DOTALL)
_FORMS: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bhf_[A-Za-z0-9]{20,}"
    r"|\bya29\.[A-Za-z0-9._-]{16,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|(?<=hooks\.slack\.com/)[A-Za-z]+/[A-Za-z0-9/_-]{8,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|(?<=[?&]X-Amz-)(?:Signature|Credential|Security-Token)=[^&\s\"'<>]+"
    r"|(?i:(?<=authorization: )(?:bearer|basic|aws4-hmac-sha256) [^\r\n\"']+)",
    re.DOTALL,
)


class Redactor:
    """Replaces secrets that it has learned by ``[hidden: NAME]``, and what has the form of one by ``[hidden]``.

    It also learns the other spellings of a value: escaped in JSON or a URL, in base64, with real line breaks for literal
    ``\\n``, and the single lines of a key.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._learned: re.Pattern[str] | None = None

    def learn(self, environment: Mapping[str, str], names: Iterable[str] = ()) -> None:
        """Learns the values of ``environment`` with the name of a secret, and those of ``names``."""
        chosen = {*names, *(name for name in environment if is_secret(name))}
        before = len(self._names)
        for name in sorted(chosen & environment.keys()):
            value = environment[name]
            if len(value.strip()) >= _SHORTEST and not _is_path(value):
                self._names.update(dict.fromkeys(_spellings(value), name))
        if len(self._names) != before:
            longest_first = sorted(self._names, key=len, reverse=True)
            self._learned = re.compile("|".join(map(re.escape, longest_first)))

    def text(self, text: str) -> str:
        """``text`` without secrets."""
        if self._learned is not None:
            text = self._learned.sub(lambda found: f"[hidden: {self._names[found[0]]}]", text)
        return _FORMS.sub("[hidden]", text)

    def value(self, value: Any) -> Any:
        """A JSON value with every text in it redacted; the keys of mappings stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {name: self.value(one) for name, one in value.items()}
        return [self.value(one) for one in value] if isinstance(value, list | tuple) else value

    def named(self, text: str) -> str | None:
        """The name of a learned secret in ``text``, or None."""
        found = self._learned.search(text) if self._learned is not None else None
        return None if found is None else self._names[found[0]]


REDACTOR: Final = Redactor()
"""The redactor of the process, which has one environment; whatever reads secrets teaches it."""


def learn_environment(names: Iterable[str] = ()) -> None:
    """Teaches the process's redactor its environment and the files of DPO_SECRETS; ``names``: those that an experiment names."""
    REDACTOR.learn(os.environ, names)
    folder = os.environ.get("DPO_SECRETS")
    with suppress(OSError, UnicodeError):
        files = [path for path in Path(folder).iterdir() if path.is_file()] if folder else []
        REDACTOR.learn({path.name: path.read_text(encoding="utf-8") for path in files}, [path.name for path in files])


class RedactedStream:
    """A text stream that redacts what it writes, and otherwise is ``stream``."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(REDACTOR.text(text) if isinstance(text, str) else text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def redact_output() -> None:
    """Redacts everything that Python writes from now on to this process's standard output and error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, RedactedStream):
            setattr(sys, name, RedactedStream(stream))


def is_secret(name: str) -> bool:
    """Whether ``name`` is that of a variable with a secret."""
    return SECRET.search(name) is not None and _HARMLESS.search(name) is None


def _is_path(value: str) -> bool:
    with suppress(OSError, ValueError):
        return value.startswith(("/", "~", "./")) and Path(value).expanduser().exists()
    return False


def _spellings(value: str) -> set[str]:
    import base64  # every command teaches the redactor, few have a secret
    import json
    from urllib.parse import quote

    bare = value.strip().strip("'\"")
    real = value.replace("\\r", "").replace("\\n", "\n")
    plain = {value, value.strip(), bare, real, bare.replace("\\r", "").replace("\\n", "\n")}
    found = plain | _parts_of_key(real)
    for one in plain:
        found |= {json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1], repr(one)[1:-1], quote(one, safe="")}
        found.add(base64.b64encode(one.encode("utf-8", "surrogateescape")).decode())
    return {one for one in found if len(one) >= _SHORTEST}


def _parts_of_key(text: str) -> set[str]:
    """The long lines of ``text``; of a key also its base64 in one piece and in PEM's lines, however it is written."""
    lines = {line for line in map(str.strip, text.splitlines()) if len(line) >= _LINE and not line.startswith("-----")}
    key = _PEM.search(text)
    if key is None:
        return lines
    words = key[1].split()
    body = "".join(words)
    return lines | {body, *(body[at : at + 64] for at in range(0, len(body), 64)), *(w for w in words if len(w) >= _LINE)}
