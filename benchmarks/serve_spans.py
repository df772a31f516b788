"""Spans for bench_serve.py: one line each, name and milliseconds, into the file $MATS_SPANS."""

import os
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult


class ToFile(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with Path(os.environ["MATS_SPANS"]).open("a") as file:
            for span in spans:
                file.write(f"{span.name}\t{(span.end_time - span.start_time) / 1e6}\n")
        return SpanExportResult.SUCCESS
