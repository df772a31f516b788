"""Body of ``POST /v1/chat/completions``: OpenAI's, as far as one question about one sound goes.

Parameters without an effect here are refused, not ignored: a client that sets one expects it to do something.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from mats_ray.config.answer import (
    MAX_STOP_TEXTS,
    AnswerOptions,
    MaxNewTokens,
    SantaChoice,
    Seed,
    StopText,
    Temperature,
    TopP,
)
from mats_ray.config.base import Within, shown
from mats_ray.config.generation import Profile
from mats_ray.serving.errors import RequestError
from mats_ray.serving.http.errors import OWN_SENTENCE, validation_error
from mats_ray.serving.http.validation import RequestModel
from mats_ray.serving.types import AnswerRequest, Upload
from mats_ray.tasks import NO_CLIP, several_clips

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none",),
    "store": (False,),
}
"""Parameters of OpenAI's that may be sent as long as they change nothing."""
_ROLES = {
    "system": "MATS has no system prompt; put what it says into the question",
    "developer": "MATS has no system prompt; put what it says into the question",
}
_NO_CONVERSATION = (
    "MATS holds no conversation; send one message of role 'user', with the clip and the whole question"
)
ShortText = Annotated[str, Field(max_length=256)]
Metadata = Annotated[dict[ShortText, Annotated[str, Field(max_length=1024)]], Field(max_length=16)]
_TEXT_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 100}
_TEXTS_SCHEMA = {"type": "array", "items": _TEXT_SCHEMA, "maxItems": MAX_STOP_TEXTS}
StopTexts = Annotated[
    list[StopText],
    Field(max_length=MAX_STOP_TEXTS),
    WithJsonSchema({"anyOf": [_TEXT_SCHEMA, _TEXTS_SCHEMA]}),
]


class _Strict(RequestModel):
    model_config = ConfigDict(strict=True)


class InputAudio(_Strict):
    """A sound in the request itself."""

    data: Annotated[str, Field(min_length=1)]
    """Base64."""
    format: Annotated[str, Field(pattern=r"^[\w.+/-]{1,40}$")] = "wav"
    """A hint, ``wav`` or ``mp3`` or any other: the bytes themselves say what they are."""


class AudioURL(_Strict):
    """A sound elsewhere."""

    url: Annotated[str, Field(min_length=1)]
    """A data: URL, or an http(s) one of a host that the server allows."""


class Part(_Strict):
    """The sound, the question or a piece of it: what its type names, and nothing else."""

    type: Literal["text", "input_audio", "audio_url"]
    text: str | None = None
    input_audio: InputAudio | None = None
    audio_url: AudioURL | None = None

    @model_validator(mode="after")
    def holds_what_its_type_names(self) -> "Part":
        """Another type's content would not be read."""
        for name in ("text", "input_audio", "audio_url"):
            if (name == self.type) != (getattr(self, name) is not None):
                verb = "needs" if name == self.type else "cannot have"
                message = f"a part of type {self.type!r} {verb} {name!r}"
                raise PydanticCustomError("part", "{message}", {"message": message, "field": name})
        return self


class Message(_Strict):
    """One message: MATS holds no conversation, and has no system prompt."""

    role: Literal["user"]
    content: Annotated[list[Part], Field(min_length=1, max_length=32)]
    """Parts, or a text."""
    name: ShortText | None = None

    @field_validator("content", mode="before")
    @classmethod
    def a_text_is_one_part(cls, value: Any) -> Any:
        """Accept a text as a list of one."""
        return [{"type": "text", "text": value}] if isinstance(value, str) else value


class StreamOptions(_Strict):
    """What a stream holds beside its text."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Extras(_Strict):
    """What OpenAI's interface has no name for."""

    profile: Profile | None = None
    """"paper" is a beam search over 4, "fast" is greedy; the model's own unless given."""
    window: Annotated[float, Within(1, 3600)] | None = None
    """Seconds: answer about every window of the sound, with its times."""
    santa: SantaChoice | None = None
    """Whether, and how, the embedding is moved towards the texts it resembles."""


class ChatRequest(_Strict):
    """One question about one sound. Without a text the sound is described."""

    model: ShortText | None = None
    """The model's id, or "mats"."""
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: MaxNewTokens | None = None
    max_completion_tokens: MaxNewTokens | None = None
    """OpenAI's newer name of ``max_tokens``."""
    temperature: Temperature | None = None
    """0 unless given: the likeliest answer."""
    top_p: TopP | None = None
    seed: Seed | None = None
    """Seed of the sampling at a ``temperature`` above 0; 0 unless given, so that a request has one answer."""
    stop: StopTexts | None = None
    """Texts, or one text, that end the answer."""
    user: ShortText | None = None
    """Not used, not logged."""
    metadata: Metadata | None = None
    """Not used, not logged."""
    mats: Extras = Extras()

    @model_validator(mode="before")
    @classmethod
    def neutral_parameters_may_be_sent(cls, tree: Any) -> Any:
        """Drop parameters without an effect; refuse those that are not supported."""
        if not isinstance(tree, dict):
            return tree
        for name, allowed in _NEUTRAL.items():
            if (value := tree.get(name)) is not None and value not in allowed:
                neutral = " or ".join(map(repr, allowed))
                message = f"{name} is not supported here; leave it out, or send {neutral}"
                raise PydanticCustomError("unsupported", "{message}", {"message": message, "field": name})
        return {name: value for name, value in tree.items() if name not in _NEUTRAL}

    @field_validator("messages", mode="before")
    @classmethod
    def one_message_of_a_user(cls, value: Any) -> Any:
        """Explain why a conversation is refused, before a fault within one of its messages is found."""
        messages = value if isinstance(value, list) else []
        for number, message in enumerate(messages):
            role = message.get("role", "user") if isinstance(message, dict) else "user"
            if role != "user":
                reason = _ROLES.get(role, _NO_CONVERSATION) if isinstance(role, str) else _NO_CONVERSATION
                refusal = f"messages[{number}].role is {shown(role)}: {reason}"
                raise PydanticCustomError(OWN_SENTENCE, "{message}", {"message": refusal})
        if len(messages) > 1:
            refusal = f"there are {len(messages)} messages: {_NO_CONVERSATION}"
            raise PydanticCustomError(OWN_SENTENCE, "{message}", {"message": refusal})
        return value

    @field_validator("stop", mode="before")
    @classmethod
    def a_text_is_a_list_of_one(cls, value: Any) -> Any:
        """Accept a text as a list of one."""
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def one_limit(self) -> "ChatRequest":
        """Two names, one meaning."""
        both = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(both) > 1:
            message = f"max_completion_tokens = {self.max_completion_tokens} says otherwise"
            raise PydanticCustomError("two_limits", "{message}", {"message": message, "field": "max_tokens"})
        return self

    def options(self) -> AnswerOptions:
        """Collect the parameters of generation.

        Raises:
            RequestError: The values do not go together.
        """
        return answer_options(
            profile=self.mats.profile,
            max_new_tokens=self.max_tokens or self.max_completion_tokens,
            temperature=self.temperature or 0,
            top_p=self.top_p or 1,
            seed=self.seed or 0,
            stop=tuple(self.stop or ()),
            santa=self.mats.santa,
        )


def answer_options(**chosen: Any) -> AnswerOptions:
    """Build options from a request's parameters.

    Raises:
        RequestError: A value is not allowed, or values do not go together.
    """
    try:
        return AnswerOptions(**chosen)
    except ValidationError as error:
        raise validation_error(error.errors(), chosen) from None


async def read_request(body: ChatRequest, fetch: Callable[[str], Awaitable[bytes]]) -> AnswerRequest:
    """Translate a chat request: its one sound, the texts beside it as the question, its parameters.

    Args:
        body: As the client sent it.
        fetch: Downloads the file at a remote URL.

    Raises:
        RequestError: There are no or several sounds, one is no base64 or cannot be fetched, or parameters do
            not go together.
    """
    parts = body.messages[0].content
    numbers = [number for number, part in enumerate(parts) if part.type != "text"]
    if len(numbers) != 1:
        raise RequestError(
            several_clips(len(numbers)) if numbers else NO_CLIP, code="clip_count", param="messages"
        )
    where, sound = f"messages[0].content[{numbers[0]}]", parts[numbers[0]]
    question = "\n".join(part.text for part in parts if part.text is not None).strip()
    return AnswerRequest(
        upload=await _upload(sound, where, fetch),
        question=question or None,
        options=body.options(),
        window_seconds=body.mats.window,
    )


async def _upload(sound: Part, where: str, fetch: Callable[[str], Awaitable[bytes]]) -> Upload:
    if sound.input_audio is not None:
        data = _from_base64(sound.input_audio.data, f"{where}.input_audio.data")
        return Upload(data=data, name=f"input_audio.{sound.input_audio.format}")
    assert sound.audio_url is not None, "a part holds what its type names"
    url = sound.audio_url.url
    data = _from_data_url(url, f"{where}.audio_url.url") if url.startswith("data:") else await fetch(url)
    return Upload(data=data, name="audio_url")


def _from_data_url(url: str, where: str) -> bytes:
    head, comma, data = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise _refused(f"{where} = {shown(url)} must read data:audio/...;base64,...")
    return _from_base64(data, where)


def _from_base64(data: str, where: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise _refused(f"{where} = {shown(data)} is not base64") from None


def _refused(message: str) -> RequestError:
    return RequestError(message, code="invalid_field", param="messages")
