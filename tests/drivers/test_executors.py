"""What starts thread pools of its own: boto3 with s3transfer, executors of the standard library."""

import concurrent.futures
import io
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import roving
import roving.patch
from crowd import FIBERS, POOL, crowd
from servers import Server


@pytest.fixture
def s3(origin: Server) -> Iterator[Any]:
    """A client of S3, whose server answers every key with its path."""
    boto3 = pytest.importorskip("boto3")
    import botocore.config

    config = botocore.config.Config(
        max_pool_connections=POOL, s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}
    )
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{origin.port}",
        region_name="nowhere",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        config=config,
    )
    yield client
    client.close()


def test_boto3(s3: Any) -> None:
    """One client for a thousand fibers."""

    def get(number: int) -> bytes:
        body: bytes = s3.get_object(Bucket="after", Key=f"5/{number}")["Body"].read()
        return body

    assert crowd(get) == [b"/after/5/%d" % number for number in range(FIBERS)]


def test_s3transfer(s3: Any) -> None:
    """Its threads, which are fibers, and its queues; twenty transfers, each with an executor of ten."""

    def transfer(number: int) -> bytes:
        found = io.BytesIO()
        s3.download_fileobj("after", f"5/{number}", found)
        s3.upload_fileobj(io.BytesIO(b"x" * 1000), "after", f"5/{number}/up")
        return found.getvalue()

    assert crowd(transfer, 20) == [b"/after/5/%d" % number for number in range(20)]


def test_an_executor_of_a_thousand(origin: Server) -> None:
    """ThreadPoolExecutor, as programs have it: its threads are fibers, and cost what fibers cost."""

    def get(number: int) -> bytes:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{origin.port}/after/100/{number}", timeout=60
        ) as answer:
            body: bytes = answer.read()
            return body

    def main() -> list[bytes]:
        with concurrent.futures.ThreadPoolExecutor(FIBERS) as executor:
            return list(executor.map(get, range(FIBERS)))

    assert roving.spawn(main).join(60) == [b"/after/100/%d" % number for number in range(FIBERS)]


def test_native_threads_for_what_blocks_in_c() -> None:
    """An executor whose threads are the system's, shared by a thousand fibers that park."""
    with roving.patch.native_threads():
        executor = concurrent.futures.ThreadPoolExecutor(8)
        idents = {executor.submit(threading.get_native_id).result() for _ in range(100)}

    def call(number: int) -> int:
        return executor.submit(pow, number, 2).result()

    assert threading.get_native_id() not in idents
    assert crowd(call) == [number * number for number in range(FIBERS)]
    executor.shutdown()
