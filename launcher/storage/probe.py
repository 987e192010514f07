"""check_bucket: what would make an upload fail for certain, found before the training that it follows."""

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

    Raises CredentialError where credentials are missing or refused, ExperimentError where there is no such bucket, and
    StorageError for what may be over when the training is: a server that is not reached, or does not do its work.
    """
    assert storage.bucket_name is not None, "upload_to_cloud needs one"
    endpoint = endpoint_of(storage, env)
    place = Place.of(storage.bucket_name, storage.object_prefix)
    purpose = "list and write there"
    with explained(place.bucket, endpoint, purpose=purpose, failure=StorageError, where="storage_config.bucket_name"):
        try:
            store = Store.open(place.bucket, storage, env, effort)
        except ValueError as error:
            raise no_address(endpoint, StorageError) from error
        store.call("list_objects_v2", Prefix=place.below, MaxKeys=1)
