"""moto's server as a process: python -m tests.s3.server; it prints its port, and ends with its standard input."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

PART = 1024  # bytes: the smallest part that the server takes, where AWS wants 5 MiB


class MotoServer:
    """``url`` answers as AWS does: S3, IAM and STS, everything in memory."""

    def __enter__(self) -> MotoServer:
        environment = {**os.environ, "S3_UPLOAD_PART_MIN_SIZE": str(PART), "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(1 << 28)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.s3.server"],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=300)

    def emptied(self, *buckets: str) -> Any:
        """A bare client of the server, which holds these empty buckets and nothing else."""
        import boto3

        self.post("/moto-api/reset")
        known = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=self.url, **known)
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        return client

    def post(self, path: str, body: bytes = b"") -> None:
        """A request to moto itself, as /moto-api/reset."""
        plain = {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(self.url + path, data=body, headers=plain, method="POST")).close()


def main() -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)  # noqa: T201
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
