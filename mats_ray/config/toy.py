"""Section ``toy``: the offline world."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from mats_ray.config.base import StrictConfig


class ToyConfig(StrictConfig):
    """The offline world: sounds, captions, a tiny CLAP and a tiny pretrained LLaMA."""

    sample_rate: PositiveInt = 16000
    clip_seconds: PositiveInt = 4
    """Whole seconds, the unit of the window in CLAP's front end."""
    clap_takes: PositiveInt = 100
    """Number of renderings of each sound from which the tiny CLAP's training clips are mixed."""
    clap_steps: PositiveInt = 400
    clap_batch_size: PositiveInt = 48
    num_texts: PositiveInt = 6000
    """Number of scene descriptions the triplets are made of."""
    llm_dim: Annotated[PositiveInt, Field(multiple_of=32)] = 192
    """Width; attention heads are 32 wide."""
    llm_layers: PositiveInt = 4
    llm_steps: NonNegativeInt = 400
    """Number of steps that pretrain the tiny LLaMA on plain text."""
    llm_batch_size: PositiveInt = 48
    """Number of descriptions per batch, each with all its questions."""
    num_test_clips: Annotated[PositiveInt, Field(le=10_000)] = 200
    """Number of clips of each test set; names of their files have four digits."""
    num_audio_train_clips: PositiveInt = 2000
    """Number of clips for the audio-supervised model, the demo's upper bound."""
