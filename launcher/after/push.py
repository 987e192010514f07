"""``launcher push``: publishes trained weights and their model card on a model hub, with the hub's own client."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from ..errors import CredentialError, LauncherError, UnreachableError, UsageError, Warned
from ..hub import of_network, quiet, refusal
from ..job.target import Target
from ..packages import missing_packages, needs
from .public_files import Files, public_files

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_XET_OF_NONE: Final = re.compile(r"404.*xet-write-token", re.DOTALL)


@dataclass(frozen=True)
class Destination:
    """``repository``: owner/name. ``revision``: a branch, None for the default branch. ``is_public``: visibility of a new
    repository.
    """

    repository: str
    is_public: bool = False
    revision: str | None = None


@dataclass(frozen=True)
class Pushed:
    """``url``: the repository's page. ``commit``: the commit with these files. ``is_new``: False if the hub already had them."""

    url: str
    commit: str
    is_new: bool
    files: int
    bytes: int
    notices: tuple[str, ...]


def push(target: Target, to: Destination, env: Mapping[str, str]) -> Pushed:
    """Commits the files of ``target`` to the repository and creates it if needed. Unchanged files make no commit.

    Raises UsageError for an address or a folder that cannot be pushed, CredentialError if the hub refuses the token,
    UnreachableError if it does not answer, LauncherError without the hub's client or for another answer.
    """
    if _REPOSITORY.fullmatch(to.repository) is None:
        raise UsageError(f"{to.repository}: a repository is owner/name, for example my-team/my-adapter")
    _check_verified(target)
    files = public_files(target.weights, to.repository)
    if missing_packages(["huggingface_hub"]):
        raise LauncherError(needs("push", ["huggingface_hub"]))
    from huggingface_hub import HfApi

    api = HfApi(endpoint=env.get("HF_ENDPOINT") or None, token=env.get("HF_TOKEN") or None)
    with quiet(), _explained(to.repository):
        before, notices = _made(api, to)
        done = _committed(api, to, files)
    if target.run is not None:
        target.run.update_record(pushed={"repository": to.repository, "commit": done})
    url = f"{api.endpoint}/{to.repository}" + (f"/tree/{to.revision}" if to.revision else "")
    return Pushed(url, done, done != before, len(files.contents), files.bytes, (*files.notices, *notices))


def _check_verified(target: Target) -> None:
    """Raises UsageError if the saved weights were never read back and compared."""
    if target.run is not None and not ((target.run.read_record().get("result") or {}).get("verified") or {}).get("tensors"):
        raise UsageError(f"{target.name}: its weights were not read back and compared; its training did not end")


def _made(api: Any, to: Destination) -> tuple[str | None, list[str]]:
    """Creates the repository and the branch if needed. Returns (newest commit before the push, notices).

    Raises UsageError if the repository is public and --public was not given.
    """
    found = _found(api, to.repository)
    if found is None:
        api.create_repo(to.repository, private=not to.is_public)
        found = api.repo_info(to.repository)
    if not found.private and not to.is_public:
        raise UsageError(
            f"{to.repository} is public: everybody could read these weights\n"
            "    hint:     if that is what you want, add --public (in Python: public=True)"
        )
    notices: list[str] = []
    if found.private and to.is_public:
        notices.append(Warned(f"{to.repository} stays private; make it public in its settings on the hub"))
    if to.revision is None:
        return found.sha, notices
    branch = _found(api, to.repository, to.revision)
    if branch is None:
        api.create_branch(to.repository, branch=to.revision)
    return (found if branch is None else branch).sha, notices


def _found(api: Any, repository: str, revision: str | None = None) -> Any | None:
    """The hub's information about a repository; None if the repository or the branch does not exist."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return api.repo_info(repository, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        return None


def _committed(api: Any, to: Destination, files: Files) -> str:
    """Pushes and returns the commit. Uses Git LFS if the hub has no Xet storage, as a private hub may."""
    from huggingface_hub import constants

    try:
        return _commit(api, to, files)
    except Exception as error:
        if constants.HF_HUB_DISABLE_XET or _XET_OF_NONE.search(str(error)) is None:
            raise
    constants.HF_HUB_DISABLE_XET = True
    try:
        return _commit(api, to, files)
    finally:
        constants.HF_HUB_DISABLE_XET = False


def _commit(api: Any, to: Destination, files: Files) -> str:
    from huggingface_hub import CommitOperationAdd

    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.contents.items()]
    message = "Upload with dpo-launcher"
    return str(api.create_commit(to.repository, operations, commit_message=message, revision=to.revision).oid)


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turns errors of the hub's client into the launcher's."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    try:
        yield
    except LauncherError:
        raise
    except OfflineModeIsEnabled:
        raise UsageError("HF_HUB_OFFLINE is set: the hub's client sends nothing; unset it for this command") from None
    except RepositoryNotFoundError as error:  # the repository exists: the token has no write permission
        raise _refused(repository, f"HTTP {error.response.status_code}") from error
    except Exception as error:
        if (away := of_network(error)) is not None:
            raise away from error
        if (why := refusal(error)) is not None:
            raise _refused(repository, why) from error
        if isinstance(error, ConnectionError):  # Xet's client names no server
            raise UnreachableError(f"the hub's storage cannot be reached: {' '.join(str(error).split())}") from error
        if isinstance(error, HfHubHTTPError):
            said = error.server_message or str(error).splitlines()[0]
            raise LauncherError(f"the hub refuses the files for {repository}: {said}") from error
        raise LauncherError(f"cannot push to {repository}: {' '.join(str(error).split())}") from error


def _refused(repository: str, why: str) -> CredentialError:
    owner = repository.partition("/")[0]
    return CredentialError(
        f"cannot write to {repository}: permission denied ({why})\n"
        f"    hint:     set HF_TOKEN in .env to a token with write access to {owner}"
    )
