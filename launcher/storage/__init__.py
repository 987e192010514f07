"""S3 and every store that speaks its protocol: adapters go up, adapters, models and data come down, whole or not at all.

``upload`` sends a folder and its manifest last, ``download`` reads what a manifest names, ``fetch`` keeps folders of a bucket in
the cache. ``client`` and what it imports alone know boto3.
"""

from __future__ import annotations

from .client import Effort
from .download import Downloaded, download_folder
from .fetch import fetch_folder
from .place import Place
from .probe import check_bucket
from .progress import Lines, Progress
from .run import key_parts, upload_run
from .upload import Uploaded, upload_folder

__all__ = [
    "Downloaded",
    "Effort",
    "Lines",
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
