"""The wire contract of ``POST /v1/chat/completions``: OpenAI's, as far as one question about one sound goes.

What cannot be done is refused, not ignored: a client that sets a parameter expects it to do something.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from mats_ray.config.answer import AnswerOptions, SantaOptions
from mats_ray.config.infer import Profile
from mats_ray.serving.problems import RequestError

AudioFormat = Literal["wav", "mp3", "flac", "ogg", "opus", "m4a", "aac", "webm", "aiff"]
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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class InputAudio(_Strict):
    """A sound in the request itself."""

    data: Annotated[str, Field(min_length=1)]
    """Base64."""
    format: AudioFormat = "wav"
    """A hint: the bytes themselves say what they are."""


class AudioURL(_Strict):
    """A sound elsewhere."""

    url: Annotated[str, Field(min_length=1)]
    """A data: URL, or an http(s) one of a host that the server allows."""


class TextPart(_Strict):
    """The question, or a part of it."""

    type: Literal["text"]
    text: str


class InputAudioPart(_Strict):
    """The sound."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class AudioURLPart(_Strict):
    """The sound."""

    type: Literal["audio_url"]
    audio_url: AudioURL


Part = Annotated[TextPart | InputAudioPart | AudioURLPart, Field(discriminator="type")]


class Message(_Strict):
    """One message: MATS holds no conversation, and has no system prompt."""

    role: Literal["user"]
    content: str | list[Part]
    name: str | None = None


class StreamOptions(_Strict):
    """What a stream holds beside its text."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Extras(_Strict):
    """What OpenAI's interface has no name for."""

    profile: Profile | None = None
    """"paper" is a beam search over 4, "fast" is greedy; the model's own unless given."""
    window: Annotated[float, Field(ge=1, le=3600)] | None = None
    """Seconds: answer about every window of the sound, with its times."""
    santa: bool | SantaOptions | None = None
    """Whether, and how, the embedding is moved towards the texts it resembles."""


class ChatRequest(_Strict):
    """One question about one sound. Without a text the sound is described."""

    model: str | None = None
    """The model's id, or "mats"."""
    messages: Annotated[list[Message], Field(min_length=1, max_length=1)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """OpenAI's newer name of ``max_tokens``."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """0 unless given: the likeliest answer."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    """Of what ``temperature`` draws; 0 unless given, so that a request has one answer."""
    stop: str | list[str] | None = None
    user: str | None = None
    """Not used, not logged."""
    metadata: dict[str, str] | None = None
    """Not used, not logged."""
    mats: Extras = Extras()

    @model_validator(mode="before")
    @classmethod
    def neutral_parameters_may_be_sent(cls, tree: Any) -> Any:
        """Drop parameters that ask for nothing; refuse those that ask for what there is not."""
        if not isinstance(tree, dict):
            return tree
        for name, allowed in _NEUTRAL.items():
            if (value := tree.get(name)) is not None and value not in allowed:
                raise PydanticCustomError(
                    "unsupported", "{name} is not supported here; leave it out", {"name": name}
                )
        return {name: value for name, value in tree.items() if name not in _NEUTRAL}

    @model_validator(mode="after")
    def one_limit(self) -> "ChatRequest":
        """Two names, one meaning."""
        both = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(both) > 1:
            raise PydanticCustomError("two_limits", "max_tokens and max_completion_tokens disagree")
        return self

    def options(self) -> AnswerOptions:
        """Collect what is asked of the decoder.

        Raises:
            RequestError: The values do not go together.
        """
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return answer_options(
            profile=self.mats.profile,
            max_new_tokens=self.max_tokens or self.max_completion_tokens,
            temperature=self.temperature or 0,
            top_p=self.top_p or 1,
            seed=self.seed or 0,
            stop=stop,
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
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "temperature"
        message = first["msg"].removeprefix("Value error, ")
        raise RequestError(f"{name}: {message}", code="invalid_field", param=name) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a chat's one message holds."""

    audio: bytes | str
    """Encoded bytes, or a remote URL."""
    name: str
    question: str | None


def read_message(request: ChatRequest) -> Asked:
    """Find the one sound and the question.

    Raises:
        RequestError: There are no or several sounds, or what should be base64 is not.
    """
    content = request.messages[0].content
    parts = [TextPart(type="text", text=content)] if isinstance(content, str) else content
    sounds = [part for part in parts if not isinstance(part, TextPart)]
    if len(sounds) != 1:
        there = f"there are {len(sounds)}" if sounds else "there is none"
        raise RequestError(
            f"send one sound, as an input_audio part; {there}", code="invalid_field", param="messages"
        )
    question = "\n".join(part.text for part in parts if isinstance(part, TextPart)).strip()
    sound = sounds[0]
    if isinstance(sound, InputAudioPart):
        name = f"input_audio.{sound.input_audio.format}"
        return Asked(audio=_from_base64(sound.input_audio.data), name=name, question=question or None)
    url = sound.audio_url.url
    audio = _from_data_url(url) if url.startswith("data:") else url
    return Asked(audio=audio, name="audio_url", question=question or None)


def _from_data_url(url: str) -> bytes:
    head, comma, data = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise RequestError(
            "a data: URL must read data:audio/...;base64,...", code="invalid_field", param="messages"
        )
    return _from_base64(data)


def _from_base64(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("the sound's data is not base64", code="invalid_field", param="messages") from None
