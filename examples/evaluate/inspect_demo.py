"""An evaluation by Inspect (inspect-ai): a question about each clip, its answer scored as right or wrong.

Inspect reads the file that ``write_dataset.py`` wrote, sends each clip as ``input_audio`` to an endpoint that
speaks OpenAI's chat interface, and compares answers without regard to case, articles and punctuation.
"""

from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import Sample, json_dataset
from inspect_ai.model import ChatMessageUser, ContentAudio, ContentText
from inspect_ai.scorer import exact


@task
def audio_questions(dataset: str) -> Task:
    """Ask about every clip of a data set.

    Args:
        dataset: The file ``inspect.jsonl``; on the command line ``-T dataset=PATH``.
    """
    return Task(dataset=json_dataset(dataset, record_to_sample), scorer=exact())


def record_to_sample(record: dict[str, Any]) -> Sample:
    """Make a sample of a line: one message with the question and the clip, and no system prompt."""
    content = [
        ContentText(text=record["question"]),
        ContentAudio(audio=record["audio"], format=record["format"]),
    ]
    return Sample(id=record["id"], input=[ChatMessageUser(content=content)], target=record["answer"])
