"""Sizes of the suite: MATS-LLaMA 7B with MS-CLAP 2023 for a card, the same code in miniature for a CPU."""

from dataclasses import dataclass

from benchmarks.gpu_train import MAPPERS, SIZES
from mats_ray.config.model import MapperConfig


@dataclass(frozen=True, kw_only=True)
class Size:
    """Shapes, and how much is measured."""

    name: str
    llm: dict[str, int]
    mapper: MapperConfig
    htsat: dict
    """Sizes of the audio tower, as ``ClapAudioConfig`` names them."""
    gpt2: dict
    """Sizes of the text tower, as ``GPT2Config`` names them."""
    text_batches: tuple[int, ...]
    audio_batches: tuple[int, ...]
    repeats: int
    peer_steps: int
    """Updates of the peer's training that are timed."""
    new_tokens: int
    """Longest answer."""
    places: int
    """Requests at once in a generation engine."""
    clips: int
    """Files of the caption job."""
    peer_clips: int
    """Files captioned one at a time."""
    clip_seconds: float
    clients: int
    load_seconds: float
    """Seconds of load on the service, on each side."""

    @property
    def is_full(self) -> bool:
        """Goals are set for this size."""
        return self.name == "7b"


FULL = Size(
    name="7b",
    llm=SIZES["7b"],
    mapper=MAPPERS["7b"],
    htsat={},
    gpt2={},
    text_batches=(256, 1024, 4096),
    audio_batches=(16, 64),
    repeats=10,
    peer_steps=8,
    new_tokens=20,
    places=64,
    clips=1024,
    peer_clips=32,
    clip_seconds=7.0,
    clients=16,
    load_seconds=20.0,
)
TINY = Size(
    name="tiny",
    llm=SIZES["tiny"],
    mapper=MAPPERS["tiny"],
    htsat={
        "patch_embeds_hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "hidden_size": 32,
    },
    gpt2={"vocab_size": 600, "n_embd": 64, "n_layer": 2, "n_head": 1, "n_inner": 128},
    text_batches=(8,),
    audio_batches=(2,),
    repeats=2,
    peer_steps=2,
    new_tokens=4,
    places=4,
    clips=6,
    peer_clips=2,
    clip_seconds=1.0,
    clients=4,
    load_seconds=1.0,
)
BY_NAME = {size.name: size for size in (FULL, TINY)}
