"""Runs in a server's pod as `python3 -c` of this text, without any module of ours: copies the files below s3://BUCKET/PREFIX into
a folder, with boto3, which vLLM's images have. Arguments: the address, the folder, and the endpoint where it is not AWS."""

import os
import sys
from pathlib import Path
from typing import Any

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")  # files; without them the SDK looks elsewhere


def main(uri: str, folder: Path, endpoint: str | None) -> None:
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        sys.exit("this image has no boto3, which fetches the adapter; vLLM's own images have it (launcher serve --image)")
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    style = os.environ.get("DPO_S3_ADDRESSING_STYLE")
    options: Any = {"addressing_style": style} if style else None
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 5},
        s3=options,
        response_checksum_validation="when_required",  # some servers have none
    )
    secrets = Path(os.environ.get("DPO_SECRETS", "/dpo/secrets"))
    keys: Any = {name.lower(): file.read_text().strip() for name in _KEYS if (file := secrets / name).is_file()}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    client = boto3.client("s3", endpoint_url=endpoint, region_name=region, config=config, **keys)
    below, count = prefix.rstrip("/") + "/", 0
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below):
        for key in (one["Key"] for one in page.get("Contents", ())):
            if key.endswith("/"):  # a folder, as consoles make them
                continue
            file = (folder / key[len(below) :]).resolve()
            if not file.is_relative_to(folder.resolve()):
                sys.exit(f"s3://{bucket}/{key}: leads out of the folder")
            file.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, key, str(file))
            count += 1
    if not count:
        sys.exit(f"{uri}: no files found")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
