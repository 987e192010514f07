"""check_bucket: finds before the training what would make the upload after it fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from ..errors import StorageError
from ..experiment.schema import StorageConfig
from .client import EFFORT, Effort, Store
from .explained import endpoint_of, explained, no_address
from .place import Place

_BRIEF: Final = replace(EFFORT, attempts=2)


def check_bucket(storage: StorageConfig, env: Mapping[str, str], effort: Effort = _BRIEF) -> None:
    """Asks the server for one key of the bucket.

    Raises CredentialError if credentials are missing or refused, ExperimentError if the bucket is missing, and StorageError for
    what may be over after the training: a server that cannot be connected to or fails.
    """
    assert storage.bucket_name is not None, "upload_to_cloud needs one"
    endpoint = endpoint_of(storage, env)
    place = Place.of(storage.bucket_name, storage.object_prefix)
    purpose = "list and write"
    with explained(place.bucket, endpoint, purpose=purpose, failure=StorageError, where="storage_config.bucket_name"):
        try:
            store = Store.open(place.bucket, storage, env, effort)
        except ValueError as error:
            raise no_address(endpoint, StorageError) from error
        store.call("list_objects_v2", Prefix=place.below, MaxKeys=1)
