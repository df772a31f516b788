"""The model directory of a configuration before its first step loads and answers."""

from pathlib import Path

import numpy as np
import pytest

from mats_ray.config.run import RunConfig
from mats_ray.errors import RehearsalError
from mats_ray.infer.pipeline import MATSPipeline
from mats_ray.models.directory import read_info
from mats_ray.models.stand_in import mark_stand_in
from mats_ray.rehearsal.untrained import write_untrained
from mats_ray.types import AudioClip
from tests.world import CLAP_DIM, SAMPLE_RATE, tiny_clap, tiny_llm


def config(tmp_path, llm):
    return RunConfig.model_validate(
        {
            "output_dir": str(tmp_path / "out"),
            "model": {
                "clap": {"ref": str(tiny_clap(tmp_path / "clap")), "dim": CLAP_DIM},
                "mapper": {
                    "hidden_dim": 32,
                    "num_layers": 1,
                    "num_heads": 2,
                    "prefix_length": 4,
                    "content_length": 4,
                },
                "llm": {"path": str(llm)},
            },
            "generation": {"profile": "fast", "max_new_tokens": 4},
        }
    )


@pytest.mark.parametrize("variance", [0.015, "auto"])
def test_it_answers_and_its_card_says_in_the_first_line_that_it_is_no_model(tmp_path, variance):
    mark_stand_in(tmp_path / "llm", of="x")
    one = config(tmp_path, tiny_llm(tmp_path / "llm")).replace(model={"noise": {"variance": variance}})

    write_untrained(one, ["a dog barks", "rain falls"])

    pipeline = MATSPipeline.from_pretrained(one.model_dir)
    clip = AudioClip(samples=np.zeros(SAMPLE_RATE, np.float32), sample_rate=SAMPLE_RATE)
    assert pipeline.caption(clip).num_tokens > 0
    card = Path(one.model_dir, "README.md").read_text()
    assert card.startswith("**Not a model: a rehearsal on stand-ins (llm), its answers mean nothing.**\n")
    assert read_info(one.model_dir).stand_ins == ("llm",)


def test_a_process_that_fails_is_an_error(tmp_path):
    with pytest.raises(
        RehearsalError, match="the untrained model could not be built: its process ended with 1"
    ):
        write_untrained(config(tmp_path, tmp_path / "nowhere"), ["a dog barks"])
