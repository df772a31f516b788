"""Santa as a bridge: its memory, and its numbers, as the paper or as upstream (section ``santa``)."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mats_ray.config.answer import SantaOptions
from mats_ray.config.santa import SantaConfig
from mats_ray.models.bridges.bridge import Bridge
from mats_ray.models.santa import SantaMemory
from mats_ray.models.upstream.santa import transfer_as_upstream


@dataclass(frozen=True, eq=False)
class Santa(Bridge):
    """Moves an embedding some way towards the texts of its cluster that it resembles."""

    memory: SantaMemory
    numbers: SantaConfig = field(default_factory=SantaConfig)
    name = "santa"

    @property
    def dim(self) -> int:
        """C."""
        return self.memory.dim

    def transfer(self, audio_BC: Tensor) -> Tensor:
        """See ``Bridge.transfer``; unit vectors, but as upstream of any length."""
        numbers = self.numbers.model_dump(include={"num_neighbours", "temperature", "mix"})
        if self.numbers.compat == "upstream":
            return transfer_as_upstream(
                self.memory, audio_BC, noise_variance=self.numbers.neighbour_noise_variance, **numbers
            )
        return self.memory.transfer(audio_BC, **numbers)

    def with_numbers(self, options: SantaOptions) -> "Santa":
        """Return one with a request's numbers in place of the model's."""
        changes = options.model_dump(exclude_none=True)
        return replace(self, numbers=self.numbers.model_copy(update=changes))

    def to(self, device: torch.device | str) -> "Santa":
        """See ``Bridge.to``."""
        return Santa(self.memory.to(device), self.numbers)

    def description(self) -> str:
        """See ``Bridge.description``; with the paper's letters."""
        return santa_numbers(self.numbers)


def santa_numbers(numbers: SantaConfig) -> str:
    """Write Santa's settings in a few words, with the paper's letters."""
    written = f"L={numbers.num_neighbours}, tau={numbers.temperature:g}, lambda={numbers.mix:g}"
    return f"{written}, as {numbers.compat}"
