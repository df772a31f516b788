"""Mapper and projection give upstream's numbers, small and at full size."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mats_ray.config.model import MapperConfig
from mats_ray.models.build import build_connector
from tests.golden.clap_checkpoints import assert_near
from tests.golden.mats_checkpoints import draw_connector, draw_module
from tests.golden.recipe import golden_files

TOLERANCE = 5e-5


@pytest.fixture(scope="module", params=golden_files("mats_mapper"))
def golden(request):
    return np.load(request.param)


@pytest.fixture(scope="module")
def meta(golden):
    return json.loads(str(golden["meta"]))


def sizes(meta):
    return {
        "hidden_dim": meta["mapper_dim"],
        "prefix_length": meta["prefix_length"],
        "content_length": meta["clip_length"],
        "num_layers": meta["num_layers"],
    }


def assert_connects(connector, audio, *, mapper_out, connector_out, what, part=lambda whole: (whole, whole)):
    seen = []
    connector.audio_mapper.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        connected = connector(torch.from_numpy(audio))

    assert_near(part(seen[0])[0], mapper_out, TOLERANCE, f"mapper, {what}")
    assert_near(part(connected)[1], connector_out, TOLERANCE, f"connector, {what}")


def test_the_mapper_and_the_projection_of_a_small_model(golden, meta):
    config = MapperConfig(**sizes(meta), num_heads=meta["heads"])
    connector = build_connector(config, clap_dim=meta["clap_dim"], llm_dim=meta["llama_hidden"])
    draw_connector(connector, meta["salt"])

    assert_connects(
        connector,
        golden["audio"],
        mapper_out=golden["mapper_out"],
        connector_out=golden["connector_out"],
        what="small",
    )


def test_the_mapper_and_the_projection_at_full_size(golden, meta):
    full = meta["full"]
    config = MapperConfig()  # our defaults are the paper's sizes
    assert sizes(full) == config.model_dump(include=set(sizes(full)))
    connector = build_connector(config, clap_dim=full["clap_dim"], llm_dim=full["proj"][1])
    draw_connector(connector, meta["salt"])

    assert_connects(
        connector,
        golden["full_audio"],
        mapper_out=golden["full_mapper_out"],
        connector_out=golden["full_connector_out"],
        what="full size",
        part=lambda whole: (whole[:, ::3, ::16], whole[:, ::3, ::64]),
    )


def test_the_names_and_shapes_are_upstreams(golden):
    with torch.device("meta"):
        mapper = build_connector(MapperConfig(), clap_dim=1024, llm_dim=4096).audio_mapper

    ours = {f"audio_mapper.{name}|{tuple(tensor.shape)}" for name, tensor in mapper.state_dict().items()}
    assert ours == set(golden["full_key_map"])


def test_the_mlp_mapper(golden, meta):
    audio, expected = golden["audio"], golden["mapper_mlp_out"]
    width = meta["mapper_dim"]
    config = MapperConfig(type="mlp", hidden_dim=width, prefix_length=expected.shape[1] // width)
    mapper = build_connector(config, clap_dim=meta["clap_dim"], llm_dim=8).audio_mapper
    draw_module(mapper, meta["salt"], prefix="audio_mapper_mlp.")

    with torch.inference_mode():
        out = mapper(normalize(torch.from_numpy(audio), dim=-1))

    assert_near(out.flatten(1), expected, TOLERANCE, "mlp mapper")
