"""The driver of ``tests.kills`` with stages that log what they begin and end, for ``trace_caption kills``.

python -m benchmarks.kill_driver ADDRESS AUDIO OUT MODEL
"""

import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from benchmarks import bench_pipeline as pipeline
from mats_ray.caption import job, on_ray
from mats_ray.caption.answer import AnswerStage
from mats_ray.caption.decode import DecodeStage, unpack
from tests import kills


class LoggedDecodeStage(DecodeStage):
    """Notes every batch that it decodes."""

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Decode."""
        started, cpu = time.time(), time.process_time()
        for batch in super().__call__(table):
            pipeline.note("decode", started, cpu, sum(map(len, unpack(batch))))
            yield batch
            started, cpu = time.time(), time.process_time()


class LoggedAnswerStage(AnswerStage):
    """Notes its start, and every batch when it begins and when it ends."""

    def __init__(self, *args: Any) -> None:
        started, cpu = time.time(), time.process_time()
        super().__init__(*args)
        pipeline.note("model_start", started, cpu)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Answer."""
        started, cpu = time.time(), time.process_time()
        pipeline.note("begin", started, cpu, sum(map(len, unpack(table))))
        rows = super().__call__(table)
        pipeline.note("answer", started, cpu, len(rows))
        return rows


def main() -> None:
    """Run the job."""
    started, cpu = time.time(), time.process_time()
    job.DecodeStage = LoggedDecodeStage
    on_ray.AnswerStage = LoggedAnswerStage
    pipeline.note("driver", started, cpu)
    kills.main()


if __name__ == "__main__":
    from benchmarks import kill_driver  # classes of __main__ would be pickled by value

    kill_driver.main()
