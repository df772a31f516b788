"""An S3 server in this process, for tests that need the protocol and not a fake of it."""

import contextlib
from collections.abc import Iterator

import httpx2
import pytest
import s3fs
from moto.server import ThreadedMotoServer


@contextlib.contextmanager
def s3_server(bucket: str) -> Iterator[s3fs.S3FileSystem]:
    """Serve one bucket on a free port and point the AWS environment of this process at it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            patch.setenv("AWS_ACCESS_KEY_ID", "test")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            patch.setenv("AWS_REGION", "eu-central-1")
            for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
                patch.delenv(name, raising=False)
            files = s3fs.S3FileSystem(
                endpoint_url=f"http://{host}:{port}", key="test", secret="test", use_listings_cache=False
            )
            files.mkdir(bucket)
            yield files
            # what moto keeps belongs to the process, not to the server: the next one must start empty
            httpx2.post(f"http://{host}:{port}/moto-api/reset").raise_for_status()
    finally:
        server.stop()
