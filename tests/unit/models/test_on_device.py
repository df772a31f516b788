"""A training forward and a generation step are captured whole, on one device, and read from it once a token.

What is captured without a break holds no hidden synchronisation. The simulated device has real values: its
answers are those of the CPU.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from mats_ray.config.answer import AnswerOptions
from mats_ray.config.generation import PROFILES
from mats_ray.infer.answerer import Answerer
from mats_ray.infer.batching import RunningBatch, check_request
from mats_ray.infer.engine import GenerationRequest
from mats_ray.models.bridges.bridge import NoBridge
from mats_ray.models.generation.kv_cache import read_prompts
from mats_ray.models.generation.search import Penalties, SearchSettings, TokenSequence, advance, make_search
from mats_ray.models.mats import MATS, TrainBatch
from mats_ray.models.splice import IGNORED, pad_left
from tests.simulated_device import NAME, SimulatedDevice
from tests.world import CLAP_DIM, seeded

LONG, SHORT = [5, 6, 7, 8, 9, 10], [11, 12]


@pytest.fixture(scope="module")
def answerer(model_dir):
    return Answerer.from_pretrained(model_dir)


@pytest.fixture(scope="module")
def adapted(model_dir):
    """The model as it is trained: its adapter beside the weights, with dropout."""
    from mats_ray.models.directory import load_model, read_info

    model, _ = load_model(read_info(model_dir))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or name.startswith("connector."))
    return model


def with_other_llm(model, attention="sdpa", **config):
    with seeded(0):
        llm = AutoModelForCausalLM.from_config(GPT2Config(**config), attn_implementation=attention)
    return MATS(model.connector, llm, before_ids=[1, 2], eos_id=0)


def train_batch(num_rows=3):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 60, (num_rows, 9), generator=generator)
    mask = (torch.arange(9)[None] < torch.tensor([9, 4, 7])[:num_rows, None]).long()
    labels = ids.masked_fill((mask == 0) | (torch.arange(9)[None] < 3), IGNORED)
    return TrainBatch(torch.randn(num_rows, CLAP_DIM, generator=generator), ids, mask, labels)


def captured(function):
    """Compile without a break, and without changing what is computed."""
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, backend="eager")


@pytest.fixture(params=["LLaMA with LoRA, packed", "GPT-2, packed", "GPT-2, padded"])
def trained(request, adapted):
    if request.param.startswith("LLaMA"):
        return adapted.eval()
    width = adapted.connector.audio_llama_proj.out_features
    attention = "sdpa" if request.param.endswith("packed") else "eager"
    model = with_other_llm(adapted, attention, n_embd=width, n_layer=2, n_head=2, vocab_size=80)
    return model.eval()


def test_a_training_forward_is_captured_whole(trained):
    batch = trained.laid_out(train_batch())
    assert (batch.layout.packing is None) == (trained.llm.config._attn_implementation == "eager")

    loss = captured(trained)(batch)
    loss.backward()

    torch.testing.assert_close(loss, trained(batch))


def test_a_training_forward_neither_waits_nor_leaves_its_device(trained):
    batch = train_batch()
    expected = trained(batch).item()
    with torch.no_grad(), SimulatedDevice() as device:
        there = move_copy(trained)
        placed = there.laid_out(batch).to(NAME)
        device.waits.clear()

        loss = there(placed)

        # of rows that are not packed, transformers looks at the positions
        assert device.num_waits <= (placed.layout.packing is None), device.waits
        assert str(loss.device) == NAME
        assert loss.item() == pytest.approx(expected, rel=1e-5)


def move_copy(model):
    import copy

    return copy.deepcopy(model).to(NAME)


SEARCHES = {
    "greedy": {},
    "sampled": {"temperature": 1.0, "top_p": 0.9},
    "greedy with penalties": {"penalties": Penalties(repetition_penalty=2.0, no_repeat_ngram_size=2)},
    "beams": {"num_beams": 3},
    "paper": {"num_beams": 4, "penalties": Penalties(repetition_penalty=2.0, no_repeat_ngram_size=2)},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("lengths", ["equal", "padded"])
@pytest.mark.parametrize("kind", SEARCHES)
def test_a_generation_step_is_captured_whole(answerer, kind, lengths, stream):
    model = answerer.model
    prompts = [LONG, LONG if lengths == "equal" else SHORT]
    clap = torch.randn(2, CLAP_DIM, generator=torch.Generator().manual_seed(1))
    settings = SearchSettings(max_new_tokens=9, **SEARCHES[kind])
    with torch.no_grad():
        cache, logits = read_prompts(model.llm, pad_left(model.prompt(clap, prompts)))
        search = make_search([TokenSequence(settings, stream=stream) for _ in prompts], eos_id=-1)
        cache = cache.selected(*advance(search, logits))

        def step():
            longer, step_logits = cache.step(model.llm)
            return longer.layers, step_logits, search.choose(step_logits).report

        expected_layers, expected_logits, expected = step()
        # both steps write their column to the same buffers
        expected_layers = [(keys.clone(), values.clone()) for keys, values in expected_layers]
        layers, step_logits, found = captured(step)()

    torch.testing.assert_close(step_logits, expected_logits)
    assert torch.equal(found[:2], expected[:2])
    for (keys, values), (expected_keys, expected_values) in zip(layers, expected_layers, strict=True):
        torch.testing.assert_close(keys, expected_keys)
        torch.testing.assert_close(values, expected_values)


def requests_of(kind):
    """Six requests of which some end early."""
    return [
        GenerationRequest(
            embedding_C=np.random.default_rng(number).normal(size=CLAP_DIM).astype(np.float32),
            instruction="rain? " * (number % 3 + 1),
            options=AnswerOptions(santa=False, max_new_tokens=3 + 2 * number, **kind),
            stream=bool(number % 2),
        )
        for number in range(6)
    ]


KINDS = {
    "greedy": {"profile": "fast"},
    "beams with penalties": {"profile": "paper"},
    "sampled": {"profile": "fast", "temperature": 1.0, "seed": 5},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_engines_batch_reads_from_the_device_once_a_step(answerer, kind):
    requests = requests_of(KINDS[kind])
    expected = answered(answerer, requests)
    with torch.no_grad(), SimulatedDevice() as device:
        there = replace(answerer, model=move_copy(answerer.model), bridge=NoBridge(), device=NAME)

        found = answered(there, requests, device)

    assert found == expected
    assert all(one.num_tokens for one in found.values())


def answered(answerer, requests, device=None):
    """Answer requests that join in two groups; returns the answers by position.

    The simulated device knows no inference mode, so there the methods run without it.
    """
    running, answers = RunningBatch(answerer), {}
    places = {request.id: place for place, request in enumerate(requests)}
    joining = [requests[:4], [], requests[4:]]
    while joining or len(running):
        outcomes = []
        if joining and (new := joining.pop(0)):
            before = device.num_waits if device else 0
            add = RunningBatch.add.__wrapped__ if device else RunningBatch.add
            outcomes += add(running, new, [check_request(answerer, one) for one in new])
            if device:  # a pass of its own, whose first tokens are read
                assert device.num_waits - before <= 1, device.waits
        if len(running):
            before = device.num_waits if device else 0
            step = RunningBatch.step.__wrapped__ if device else RunningBatch.step
            outcomes += step(running)
            if device:
                assert device.num_waits - before <= 1, device.waits
        answers |= {places[name]: one.answer for name, one in outcomes if one.answer is not None}
    return answers


def test_an_answer_of_the_whole_model_waits_once_a_token(answerer):
    clap = torch.randn(2, CLAP_DIM, generator=torch.Generator().manual_seed(1))
    for profile in PROFILES:
        decoding = PROFILES[profile].as_kwargs()
        expected = answerer.model.generate(clap, [LONG, SHORT], max_new_tokens=8, **decoding)
        with SimulatedDevice() as device:
            there = move_copy(answerer.model)
            clap_there = clap.to(NAME)
            device.waits.clear()

            found = there.answer(clap_there, [LONG, SHORT], max_new_tokens=8, **decoding)

            assert device.num_waits <= 8
        assert found == expected
