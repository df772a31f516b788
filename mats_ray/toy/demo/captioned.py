"""Captions and answers for the test folder, by the job that captions buckets."""

from pathlib import Path

import pyarrow.parquet as pq

from mats_ray.caption.on_ray import caption
from mats_ray.config import RunConfig
from mats_ray.storage import open_input, parquet_files
from mats_ray.tasks import Task
from mats_ray.toy.demo.testset import TestClip

CaptionsAndAnswers = tuple[list[str], list[list[str]]]
"""A caption per clip, and answers per clip in the order of its questions."""


def caption_test_set(config: RunConfig, clips: list[TestClip], out: Path) -> CaptionsAndAnswers:
    """Caption every clip and answer its own questions, in one pass.

    Args:
        config: Configuration of the demo, whose model directory is used.
        clips: All clips of one folder.
        out: Folder of the rows.
    """
    folder = str(clips[0].path.parent)
    caption(
        config.caption.model_copy(update={"always_caption": True}),
        config.generation_override,
        audio=folder,
        out=str(out / "answers"),
        model=config.model_dir,
        questions={str(clip.path): [qa.question for qa in clip.questions] for clip in clips},
    )
    rows = _rows(out / "answers")
    captions = {row["path"]: row["caption"] for row in rows if row["task"] == Task.CAPTION}
    answers = {(row["path"], row["prompt"]): row["answer"] for row in rows}
    return (
        [captions[str(clip.path)] for clip in clips],
        [[answers[str(clip.path), qa.question] for qa in clip.questions] for clip in clips],
    )


def _rows(folder: Path) -> list[dict[str, str]]:
    tables = (pq.read_table(open_input(file.path)) for file in parquet_files(str(folder)))
    return [row for table in tables for row in table.to_pylist()]
