"""Section ``toy``: the offline world."""

from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from mats_ray.config.base import StrictConfig


class ToyConfig(StrictConfig):
    """The offline world: sounds, captions, a tiny CLAP and a tiny pretrained LLaMA."""

    sample_rate: PositiveInt = 16000
    clip_seconds: PositiveInt = 4
    """Whole ones: CLAP's front end counts its window so."""
    clap_takes: PositiveInt = 100
    """Renderings of each sound that the tiny CLAP's training clips are put together from."""
    clap_steps: PositiveInt = 400
    clap_batch_size: PositiveInt = 48
    num_texts: PositiveInt = 6000
    """Scene descriptions the triplets are made of."""
    llm_dim: Annotated[PositiveInt, Field(multiple_of=32)] = 192
    """Attention heads are 32 wide."""
    llm_layers: PositiveInt = 4
    llm_steps: NonNegativeInt = 400
    """Pretraining of the tiny LLaMA on plain text."""
    llm_batch_size: PositiveInt = 48
    """Descriptions, each with all that is asked about it."""
    num_test_clips: PositiveInt = 200
    """Held-out audio the demo captions and questions."""
    num_audio_train_clips: PositiveInt = 2000
    """Clips the audio-supervised ceiling is trained on."""
