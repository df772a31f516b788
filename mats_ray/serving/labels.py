"""What is a usable set of labels, for requests; ``infer.classification`` compares them with sounds."""

from collections.abc import Sequence

from mats_ray.serving.errors import RequestError


def check_labels(labels: Sequence[str], *, max_labels: int, max_characters: int) -> None:
    """Refuse what is no set of labels.

    Raises:
        RequestError: There are none or too many, or one is empty, too long, or there twice.
    """
    said = None
    if not labels:
        said = "send at least one label"
    elif len(labels) > max_labels:
        said = f"there are {len(labels)} labels, at most {max_labels} are allowed"
    elif any(not label.strip() for label in labels):
        said = "a label is empty"
    elif len(longest := max(labels, key=len)) > max_characters:
        said = f"a label has {len(longest)} characters, at most {max_characters} are allowed"
    elif len(set(labels)) < len(labels):
        said = "a label is there twice"
    if said is not None:
        raise RequestError(said, code="invalid_field", param="labels")
