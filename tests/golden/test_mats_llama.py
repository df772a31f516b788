"""A released checkpoint, converted, answers as upstream does: token for token."""

import json

import numpy as np
import pytest
import torch

from mats_ray.models.directory import load_model, read_info
from mats_ray.models.splice import pad_left, splice
from mats_ray.models.upstream.convert import UpstreamOptions, convert_upstream
from tests.golden.clap_checkpoints import assert_near
from tests.golden.mats_checkpoints import save_llama, save_upstream
from tests.golden.recipe import golden_files
from tests.world import tiny_clap

TOLERANCE = 1e-4
PAD = 480


@pytest.fixture(scope="module", params=golden_files("mats_llama"))
def golden(request):
    return np.load(request.param)


@pytest.fixture(scope="module")
def meta(golden):
    return json.loads(str(golden["meta"]))


@pytest.fixture(scope="module")
def converted(golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("upstream")
    save_llama(folder / "llama", golden)
    save_upstream(folder / "mats.pth", golden)
    options = UpstreamOptions(clap=str(tiny_clap(folder / "clap")), llm=str(folder / "llama"))
    return convert_upstream(folder / "mats.pth", folder / "model", options), folder / "model"


@pytest.fixture(scope="module")
def loaded(converted):
    return load_model(read_info(converted[1]))


@pytest.fixture(scope="module")
def questions(loaded, meta):
    """Ids behind the prefix of each prompt; the golden prompts are whole."""
    after = [prompt.split("<Speech><SpeechHere></Speech> ")[1] for prompt in meta["prompts"]]
    return [loaded[1].after(text.removesuffix("\nASSISTANT:")) for text in after]


def rows_of(ids, mask):
    return [[int(token) for token in row[keep == 1]] for row, keep in zip(ids, mask, strict=True)]


def test_every_tensor_of_the_checkpoint_has_its_place(converted, golden):
    report, _ = converted
    num_ignored = len(report.clap_left_out) + len(report.unused)

    assert num_ignored + len(report.connector) + len(report.lora) + len(report.llm_equal) == len(
        golden["key_map"]
    )
    assert not report.llm_different


def test_prompts_become_upstreams_ids(loaded, questions, golden):
    _, prompts = loaded

    assert [prompts.before()] * 4 == [[1, *row] for row in golden["prompt_before"].tolist()]
    assert questions == rows_of(golden["prompt_after"], golden["prompt_after_mask"])


def spliced(loaded, questions, clap):
    model, _ = loaded
    embed = model.llm.get_input_embeddings()
    width = max(map(len, questions))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in questions])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in questions])
    return splice(embed(model.before_F), model.connector(clap), embed(ids), mask)


def test_the_language_model_gets_upstreams_vectors(loaded, questions, golden):
    clap = torch.from_numpy(golden["audio"])
    with torch.inference_mode():
        ours = pad_left(spliced(loaded, questions, clap))
        santa = spliced(loaded, questions[:1], torch.from_numpy(golden["santa_kmeans"][:1]))

    # upstream's padding stands in the middle, ours at the left: what is not padding must agree
    for row, (mask, embeds) in enumerate(zip(ours.mask_BS, ours.embeds_BSL, strict=True)):
        theirs = golden["llm_inputs_embeds"][row][golden["llm_attention_mask"][row] == 1]
        assert_near(embeds[mask == 1], theirs, TOLERANCE, f"inputs_embeds, row {row}")
    theirs = golden["llm_inputs_embeds_santa_row0"][golden["llm_attention_mask"][0] == 1]
    assert_near(santa.embeds_BSL[0], theirs, TOLERANCE, "inputs_embeds behind Santa")


def test_the_first_logits(loaded, questions, golden):
    inputs = spliced(loaded, questions, torch.from_numpy(golden["audio"]))
    padded = pad_left(inputs)
    with torch.inference_mode():
        answered = loaded[0].llm(
            inputs_embeds=padded.embeds_BSL, attention_mask=padded.mask_BS, position_ids=padded.positions_BS
        )

    assert not golden["first_logits"][:, PAD:].any()  # its embedding is zero there
    assert_near(answered.logits[:, -1], golden["first_logits"][:, :PAD], TOLERANCE, "first logits")


@pytest.mark.parametrize("batched", [True, False], ids=["batch", "single"])
@pytest.mark.parametrize("decoding", ["greedy", "greedy_pen", "beam4"])
def test_answers(loaded, questions, golden, meta, decoding, batched):
    model, _ = loaded
    clap = torch.from_numpy(golden["audio"])
    rows = [slice(0, 4)] if batched else [slice(row, row + 1) for row in range(4)]
    answers = [model.generate(clap[each], questions[each], **meta["gen"][decoding]) for each in rows]

    expected = golden[f"ids_{'batch' if batched else 'single'}_{decoding}"].tolist()
    assert [answer.ids for some in answers for answer in some] == [until_eos(row) for row in expected]


def test_answers_behind_santa(loaded, questions, golden, meta):
    answers = loaded[0].generate(torch.from_numpy(golden["santa_kmeans"]), questions, **meta["gen"]["greedy"])

    expected = golden["ids_batch_greedy_santa"].tolist()
    assert [answer.ids for answer in answers] == [until_eos(row) for row in expected]


def until_eos(ids):
    """-1 fills short rows up."""
    ended = [at for at, token in enumerate(ids) if token in (2, -1)]
    return ids[: ended[0]] if ended else ids
