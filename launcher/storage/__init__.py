"""S3 and compatible stores: uploads of adapters, downloads of adapters, models and data, complete or absent.

Others take ``upload_run``, ``upload_folder`` (manifest last), ``download_folder`` (what a manifest names), ``fetch_folder`` (into
the cache), ``Mirrored`` (a run's checkpoints), ``check_bucket``, ``with_profile`` and listeners. Only ``client`` knows boto3.
"""

from __future__ import annotations

from .checkpoints.mirrored import Mirrored
from .client.store import Effort
from .place import Place
from .probe import check_bucket
from .progress import Lines, Progress
from .run import key_parts, upload_run
from .transfer.download import Downloaded, download_folder
from .transfer.fetch import fetch_folder
from .transfer.upload import Uploaded, upload_folder

__all__ = [
    "Downloaded",
    "Effort",
    "Lines",
    "Mirrored",
    "Place",
    "Progress",
    "Uploaded",
    "check_bucket",
    "download_folder",
    "fetch_folder",
    "key_parts",
    "upload_folder",
    "upload_run",
]
