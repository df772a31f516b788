"""What one request may contain; ``budgets`` bounds what all of them hold together."""

from collections.abc import Sequence

from mats_ray.config.serve import ServeConfig
from mats_ray.serving.errors import RequestError
from mats_ray.serving.types import AnswerRequest


def check_request(request: AnswerRequest, limits: ServeConfig) -> None:
    """Check the question of a request and the length of the answer it wants.

    Raises:
        RequestError: The question is empty or too long, or the answer would be.
    """
    wanted, question = request.options.max_new_tokens or 0, request.question
    most = limits.max_question_characters
    if wanted > limits.max_answer_tokens:
        raise _invalid(
            f"max_tokens={wanted} is more than the {limits.max_answer_tokens} this server gives", "max_tokens"
        )
    if question is not None and not question.strip():
        raise RequestError("the question is empty", code="missing_field", param="question")
    if question is not None and len(question) > most:
        raise _invalid(
            f"the question has {len(question)} characters, at most {most} are allowed",
            "question",
        )


def check_labels(labels: Sequence[str], limits: ServeConfig) -> None:
    """Check the labels of a classification.

    Raises:
        RequestError: There are none or too many, or one is empty, too long, or there twice.
    """
    most, width = limits.max_labels, limits.max_question_characters
    fault = None
    if not labels:
        fault = "send at least one label"
    elif len(labels) > most:
        fault = f"there are {len(labels)} labels, at most {most} are allowed"
    elif any(not label.strip() for label in labels):
        fault = "a label is empty"
    elif len(longest := max(labels, key=len)) > width:
        fault = f"a label has {len(longest)} characters, at most {width} are allowed"
    elif len(set(labels)) < len(labels):
        fault = "a label is there twice"
    if fault is not None:
        raise _invalid(fault, "labels")


def _invalid(message: str, param: str) -> RequestError:
    return RequestError(message, code="invalid_field", param=param)
