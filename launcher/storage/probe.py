"""check_bucket: finds problems before the training that would make the later upload fail."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from ..errors import StorageError
from ..experiment.schema import StorageConfig
from .client.explained import endpoint_of, explained, is_refused, no_address, refusal, said_by
from .client.store import EFFORT, Effort, Store
from .objects import MARK
from .place import Place

NAME: Final = ".dpo-launcher-write-check"
_BRIEF: Final = replace(EFFORT, attempts=2)
_BODY: Final = b"written and removed by dpo-launcher before a training: whether it can upload here\n"


def check_bucket(
    storage: StorageConfig,
    env: Mapping[str, str],
    prefix_parts: Sequence[str] = (),
    effort: Effort = _BRIEF,
    where: str = "storage_config.bucket_name",
) -> list[str]:
    """Does what an upload to ``<object_prefix>/<prefix_parts…>`` does: lists, writes a small object, reads it, removes it.
    ``where``: the setting that names the bucket.

    Returns notices: an object that cannot be removed stays, because uploads need no delete permission. Raises CredentialError if
    credentials are missing or refused, ExperimentError if the bucket is missing, and for what may be over after the training
    UnreachableError (a server that does not answer) or StorageError.
    """
    from botocore.exceptions import ClientError

    assert storage.bucket_name is not None, "upload_to_cloud needs one"
    endpoint = endpoint_of(storage, env)
    place = Place.of(storage.bucket_name, storage.object_prefix, *prefix_parts)
    purpose = "list, read and write"
    with explained(place.bucket, endpoint, purpose=purpose, failure=StorageError, where=where):
        try:
            store = Store.open(place.bucket, storage, env, effort)
        except ValueError as error:
            raise no_address(endpoint, StorageError) from error
        store.call("list_objects_v2", Prefix=place.below, MaxKeys=1)
        key = place.key(NAME)
        store.send("put_object", _BODY, hashlib.sha256(_BODY).digest(), Key=key, Metadata=MARK)
        store.call("head_object", Key=key)
        try:
            store.call("delete_object", Key=key)
        except ClientError as error:
            why = refusal(error) if is_refused(error) else f"DeleteObject failed: {said_by(error)}"
            return [f"s3://{place.bucket}/{key} (the check before the training) stays in the bucket: {why}"]
    return []
