"""The method on the test folder, through the same Ray Data job a bucket goes through."""

from pathlib import Path

import pyarrow.parquet as pq

from mats_ray.caption.on_ray import caption
from mats_ray.config import RunConfig
from mats_ray.storage import open_input, parquet_files
from mats_ray.toy.testset import TestClip

Said = tuple[list[str], list[list[str]]]
"""Captions, and answers per clip in the order of its questions."""


def caption_test_set(config: RunConfig, clips: list[TestClip], out: Path) -> Said:
    """Caption every clip, then ask each clip its own questions.

    Args:
        config: Of the demo; its model directory answers.
        clips: All of one folder.
        out: Folder of the rows.
    """
    folder = str(clips[0].path.parent)
    caption(config, audio=folder, out=str(out / "captions"), model=config.model_dir)
    questions = {str(clip.path): [qa.question for qa in clip.questions] for clip in clips}
    caption(config, audio=folder, out=str(out / "answers"), model=config.model_dir, questions=questions)
    said = {row["path"]: row["caption"] for row in _rows(out / "captions")}
    answered = {(row["path"], row["prompt"]): row["answer"] for row in _rows(out / "answers")}
    return (
        [said[str(clip.path)] for clip in clips],
        [[answered[str(clip.path), qa.question] for qa in clip.questions] for clip in clips],
    )


def _rows(folder: Path) -> list[dict[str, str]]:
    tables = (pq.read_table(open_input(one.path)) for one in parquet_files(str(folder)))
    return [row for table in tables for row in table.to_pylist()]
