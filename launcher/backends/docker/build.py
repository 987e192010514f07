"""Images on an engine: built if they are missing, pulled, pushed, and removed when they are old."""

from __future__ import annotations

import io
import re
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ...errors import LauncherError, UnreachableError, Warned
from ...job.image import DOCKERFILE, NAME, Build, Image
from ...published import IMAGES, VERSION
from ...storage.progress import INTERVAL, ticking
from ..spec.record import code_revision
from .engine import explained, failure

Say = Callable[[str], None]
VERSION_LABEL: Final = "org.opencontainers.image.version"
_TAIL: Final = 15  # lines of a failed build that are shown
_BIG: Final = re.compile(r"^\s*Downloading \S+ \((\d{2,}(\.\d+)? MB|.* GB)\)")
# pip's and apt's words for an index that does not answer.
_INDEX: Final = re.compile(
    r"after connection broken by|Max retries exceeded|Read timed out|Temporary failure (?:in name resolution|resolving)"
    r"|HTTP error 5\d\d"
)
_PIP_CONF: Final = (("index-url", "DPO_BUILD_INDEX"), ("extra-index-url", "DPO_BUILD_EXTRA_INDEX"))


@dataclass(frozen=True)
class Layer:
    """One layer of an image: what made it, and its size in bytes."""

    made_by: str
    size: int


def ensure(client: Any, image: Image, caller: Mapping[str, str], say: Say, *, no_cache: bool = False) -> str:
    """The id of ``image`` on the engine of ``client``; builds or pulls the image if it is missing.

    ``say`` is told at least every five seconds what is done. Raises LauncherError with the last lines of a build that fails, or
    with the registry's message.
    """
    found = None if no_cache else find(client, image.reference)
    if found is not None:
        return found
    if image.build is None:
        return _pull(client, image, say)
    if no_cache or find(client, image.build.runtime) is None:
        _build_runtime(client, image.build, caller, say, no_cache)
    return _build_image(client, image, image.build, say, no_cache)


def of_another_version(client: Any, image: Image) -> Warned | None:
    """A warning if ``image``, which the engine has, holds another version of this project; None if not, or if it names none."""
    labels = (client.images.get(image.reference).attrs.get("Config") or {}).get("Labels") or {}
    there = labels.get(VERSION_LABEL)
    if there is None or there == VERSION or labels.get("org.opencontainers.image.title") != NAME:
        return None
    return Warned(
        f"image {image.reference} holds dpo-launcher {there}, and this launcher is {VERSION}: it may not know all settings"
    )


def find(client: Any, reference: str) -> str | None:
    """The id of an image that the engine has, or None."""
    from docker.errors import ImageNotFound

    try:
        return str(client.images.get(reference).id)
    except ImageNotFound:
        return None


def layers(client: Any, reference: str) -> list[Layer]:
    """The layers of an image that are not empty, from the base up."""
    history = reversed(client.api.history(reference))
    return [Layer(_made_by(entry["CreatedBy"]), entry["Size"]) for entry in history if entry["Size"]]


def push(client: Any, image: str, repository: str, say: Say) -> str:
    """Pushes ``image`` under its own tag to ``repository``; returns the reference by digest."""
    tag = image.rpartition(":")[2]
    client.images.get(image).tag(repository, tag)
    say(f"pushing {repository}:{tag}")
    with _told(say, f"pushing {repository}:{tag}"):
        for event in client.api.push(repository, tag=tag, stream=True, decode=True):
            if "error" in event:
                raise failure(f"{repository}:{tag} was not pushed: {_explained(event['error'])}", event["error"])
            if digest := (event.get("aux") or {}).get("Digest"):
                return f"{repository}@{digest}"
    raise LauncherError(f"{repository}:{tag} was pushed, but the registry sent no digest")


def prune(client: Any, keep: Iterable[str], say: Say) -> int:
    """Removes this project's images, built or published, except those in ``keep`` and those that a container uses.

    Returns the bytes removed.
    """
    from docker.errors import APIError

    kept, removed, names = set(keep), 0, (NAME, IMAGES)
    there = {tag: image.attrs["Size"] for name in names for image in client.images.list(name=name) for tag in image.tags}
    for tag, taken in there.items():
        if tag in kept or tag.rpartition(":")[0] not in names:
            continue
        try:
            client.images.remove(tag)
        except APIError as error:
            if error.status_code != 409:  # a container has it
                raise
            say(f"kept     {tag}: a container uses it")
            continue
        say(f"removed  {tag}")
        removed += taken
    return removed


def size(count: float) -> str:
    """Bytes in binary units: ``1.8 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def _build_runtime(client: Any, build: Build, caller: Mapping[str, str], say: Say, no_cache: bool) -> None:
    """Everything below our own code. What the caller's settings add to the first stage is removed afterwards."""
    files = {path.as_posix(): (build.root / path).read_bytes() for path in build.packages} | dict(_extras(caller))
    proxies = {
        name: value for name, value in caller.items() if name.lower() in ("http_proxy", "https_proxy", "no_proxy") and value
    }
    say(f"building {build.runtime} (takes minutes, once per set of packages)")
    arguments = {"BASE_IMAGE": build.base, "VARIANT": build.variant, **proxies}
    _build(client, files, say, tag=build.runtime, target="runtime", dockerfile=DOCKERFILE, buildargs=arguments, nocache=no_cache)
    client.images.prune(filters={"dangling": True, "label": ["dpo-launcher.stage=packages"]})


def _build_image(client: Any, image: Image, build: Build, say: Say, no_cache: bool) -> str:
    files = {path.as_posix(): (build.root / path).read_bytes() for path in build.source}
    files["Dockerfile"] = build.last_stage().encode()
    code = code_revision()
    revision = str(code.get("revision") or code.get("version")) + ("-dirty" if code.get("dirty") else "")
    say(f"building {image.reference}")
    arguments = {"REVISION": revision, "CONTENT": build.content, "VARIANT": build.variant, "VERSION": VERSION}
    _build(client, files, say, tag=image.reference, dockerfile="Dockerfile", buildargs=arguments, nocache=no_cache)
    return str(client.images.get(image.reference).id)


def _extras(caller: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """What the caller's environment adds to the first stage; raises LauncherError for a missing file or folder."""
    yield "docker/extras/README.md", b"What the build alone sees.\n"
    lines = [f"{key} = {caller[name]}\n" for key, name in _PIP_CONF if caller.get(name)]
    if lines:
        yield "docker/extras/pip.conf", "".join(["[global]\n", *lines]).encode()
    try:
        if caller.get("DPO_BUILD_CA"):
            yield "docker/extras/ca.crt", Path(caller["DPO_BUILD_CA"]).read_bytes()
        if caller.get("DPO_BUILD_WHEELS"):
            for wheel in sorted(path for path in Path(caller["DPO_BUILD_WHEELS"]).iterdir() if path.suffix == ".whl"):
                yield f"docker/extras/wheels/{wheel.name}", wheel.read_bytes()
    except OSError as error:
        name = "DPO_BUILD_CA" if error.filename == caller.get("DPO_BUILD_CA") else "DPO_BUILD_WHEELS"
        raise LauncherError(f"{name}: {error.filename}: {error.strerror}") from error


def _build(client: Any, files: Mapping[str, bytes], say: Say, **arguments: Any) -> None:
    context = _tar(files)
    say(f"context  {size(context.getbuffer().nbytes)} in {len(files)} files")
    heard: list[str] = []
    with _told(say, f"building {arguments['tag']}") as told:
        for event in client.api.build(fileobj=context, custom_context=True, rm=True, forcerm=True, decode=True, **arguments):
            if "error" in event:
                raise _not_built(arguments["tag"], event["error"], heard[-_TAIL:])
            for line in filter(str.strip, event.get("stream", "").splitlines()):
                heard.append(line.rstrip())
                told.hear(line.strip(), is_shown=bool(line.startswith("Step ") or _BIG.match(line)))


def _not_built(tag: str, said: str, last: list[str]) -> LauncherError:
    """The error of a step that failed, with its ``last`` lines; the engine itself only knows that it failed."""
    words = "\n".join(f"    {line}" for line in last)
    hint = "    hint:     to train on this machine without an image, use `launcher run EXP --backend host`"
    if explained(said) is None and _INDEX.search(words):
        return UnreachableError(f"{tag} was not built: the package index cannot be reached\n    {said.strip()}\n{words}\n{hint}")
    return failure(f"{tag} was not built: {_explained(said)}\n{words}\n{hint}", said)


@dataclass
class _Told:
    """Tells ``say`` the lines that are to be shown, and after five seconds of silence what is still done."""

    say: Say
    doing: str
    _began: float = field(default_factory=time.monotonic)
    _last: float = field(default_factory=time.monotonic)
    _now: str = ""

    def hear(self, line: str, *, is_shown: bool) -> None:
        self._now = f"{line[:100]}{' …' if len(line) > 100 else ''}"
        if is_shown:
            self._tell(self._now)

    def tick(self) -> None:
        now = time.monotonic()
        if now - self._last >= INTERVAL:
            self._tell(f"{self.doing}: {now - self._began:.0f} s" + (f", {self._now}" if self._now else ""))

    def _tell(self, line: str) -> None:
        self._last = time.monotonic()
        self.say(line)


@contextmanager
def _told(say: Say, doing: str) -> Iterator[_Told]:
    told = _Told(say, doing)
    with ticking(told.tick):
        yield told


def _tar(files: Mapping[str, bytes]) -> io.BytesIO:
    """The files as a tar whose times, owners and order are the same on every machine."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(files[name]), 0o644
            tar.addfile(entry, io.BytesIO(files[name]))
    made.seek(0)
    return made


def _pull(client: Any, image: Image, say: Say) -> str:
    from docker.errors import APIError

    reference = image.reference
    say(f"pulling {reference}")
    try:
        with _told(say, f"pulling {reference}"):
            pulled = client.images.pull(*_split(reference))
    except APIError as error:
        words = str(error.explanation or error)
        hint = f"    hint:     {image.remedy}"
        raise failure(f"image {reference} ({image.why}) was not pulled: {_explained(words)}\n{hint}", words) from error
    return str(pulled.id)


def _explained(words: str) -> str:
    """What went wrong and below it the engine's message; the message alone if it is unknown."""
    meaning = explained(words)
    return f"{meaning}\n    {words.strip()}" if meaning else words.strip()


def _split(reference: str) -> tuple[str, str | None]:
    """(repository, tag) for the client; neither a digest nor a port is a tag."""
    name, colon, tag = reference.rpartition(":")
    return (reference, None if "@" in reference else "latest") if not colon or "/" in tag or "@" in reference else (name, tag)


def _made_by(command: str) -> str:
    """A layer's command without the engine's prefix."""
    words = re.sub(r"^/bin/sh -c (#\(nop\) +)?", "", command)
    words = re.sub(r"^\|\d+ (\S+=\S* )+/bin/sh -c ", "RUN ", words)
    words = re.sub(r"(file|dir|multi):([0-9a-f]{8})[0-9a-f]+ in", r"\1:\2 in", words)
    return " ".join(words.split()) or "the base"
