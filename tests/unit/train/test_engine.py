"""Plain torch as an engine: it learns, only what it should, and the split of a batch changes nothing."""

import itertools

import pytest
import torch

from mats_ray.train.engine import OPTIMIZER_KEYS, TorchEngine, build_engine
from tests.unit.train.small import fresh_engine, small_run, stream, update


@pytest.fixture
def config(llm_path):
    return small_run(llm_path, model={"llm": {"lora": {"dropout": 0.0}}})


def batches(config, micro_batch_size):
    """The eight samples, cut up."""
    cut = config.replace(train={"micro_batch_size": micro_batch_size, "num_steps": 3})
    return list(stream(cut, num_steps=1))


def test_the_loss_falls_on_eight_samples(config):
    engine, samples = fresh_engine(config), batches(config, 8)

    losses = [update(engine, samples, lr=3e-3).loss_sum for _ in range(40)]

    assert losses[-1] < 0.5 * losses[0]


def test_only_mapper_and_adapter_are_trained(config):
    engine = fresh_engine(config)
    before = {name: p.detach().clone() for name, p in engine.model.named_parameters()}

    for _ in range(2):  # the first update moves lora_B only, from which lora_A gets its gradient
        update(engine, batches(config, 8), lr=1e-3)

    moved = {name for name, p in engine.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(engine.trained_parameters)
    assert all("lora_" in name or name.startswith("connector.") for name in moved)


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_the_split_into_micro_batches_changes_nothing(config, micro_batch_size):
    """The loss is a mean over the answer tokens of the whole batch, not a mean of means."""
    whole, split = fresh_engine(config), fresh_engine(config)

    one = update(whole, batches(config, 8), lr=1e-3)
    many = update(split, batches(config, micro_batch_size), lr=1e-3)

    assert many.loss_sum == pytest.approx(one.loss_sum, rel=1e-5)
    assert many.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)
    assert (many.num_answer_tokens, many.num_text_tokens) == (one.num_answer_tokens, one.num_text_tokens)
    expected, found = whole.state(), split.state()
    for name in expected.moments:  # the weights follow: Adam's first update is a sign
        torch.testing.assert_close(found.moments[name], expected.moments[name], rtol=2e-3, atol=1e-7)


def test_a_step_reports_its_inputs(config):
    samples = batches(config, 4)

    result = update(fresh_engine(config), samples, lr=1e-3)

    assert result.num_answer_tokens == sum(batch.num_answer_tokens for batch in samples)
    assert result.num_text_tokens == sum(batch.num_text_tokens for batch in samples)
    assert result.loss_sum > 0
    assert result.grad_norm > 0


def test_gradients_are_clipped_and_reported_as_they_were(config):
    free = fresh_engine(config.replace(train={"optim": {"max_grad_norm": 1e9}}))
    clipped = fresh_engine(config.replace(train={"optim": {"max_grad_norm": 0.01}}))
    samples = batches(config, 8)

    before = update(free, samples, lr=1e-3).grad_norm
    after = update(clipped, samples, lr=1e-3).grad_norm

    def norm_of_gradients(engine):
        moments = engine.state().moments
        squares = (m.square().sum() for name, m in moments.items() if name.startswith("exp_avg/"))
        return 10 * float(sum(squares)) ** 0.5  # after one update: 1 - beta1 of the gradient

    assert after == pytest.approx(before)
    assert norm_of_gradients(free) == pytest.approx(before, rel=1e-4)
    assert norm_of_gradients(clipped) == pytest.approx(0.01, rel=1e-3)


def test_a_learning_rate_of_zero_moves_nothing(config):
    engine = fresh_engine(config)
    before = engine.state().trained

    update(engine, batches(config, 8), lr=0.0)

    assert all(torch.equal(tensor, before[name]) for name, tensor in engine.state().trained.items())


def test_a_state_is_a_copy_named_by_parameter(config):
    engine = fresh_engine(config)
    state = engine.state()
    frozen = {name: tensor.clone() for name, tensor in (state.trained | state.moments).items()}

    update(engine, batches(config, 8), lr=1e-3)

    assert state.moments.keys() == {f"{key}/{name}" for key in OPTIMIZER_KEYS for name in state.trained}
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in (state.trained | state.moments).items())
    assert (state.num_updates, engine.state().num_updates) == (0, 1)


def test_an_engine_with_the_state_of_another_continues_identically(config):
    first, second = fresh_engine(config), fresh_engine(config.replace(seed=9))
    steps = list(itertools.islice(stream(config), 6))
    for step in range(2):
        update(first, steps[2 * step : 2 * step + 2], lr=1e-3)

    second.load_state(first.state())
    results = [update(engine, steps[4:6], lr=1e-3) for engine in (first, second)]

    assert results[0] == results[1]
    one, two = first.state(), second.state()
    assert one.num_updates == two.num_updates == 3
    assert all(torch.equal(one.trained[name], two.trained[name]) for name in one.trained)
    assert all(torch.equal(one.moments[name], two.moments[name]) for name in one.moments)


def test_the_first_update_is_adams_whether_its_state_was_made_by_us_or_by_torch(config):
    engine = fresh_engine(config)
    reference = fresh_engine(config)
    reference.optimizer.state.clear()
    samples = batches(config, 8)

    update(engine, samples, lr=1e-3)
    update(reference, samples, lr=1e-3)

    expected = reference.state().trained
    assert all(torch.equal(tensor, expected[name]) for name, tensor in engine.state().trained.items())


def test_evaluation_is_without_dropout_and_changes_nothing(llm_path):
    config = small_run(llm_path)  # with dropout
    engine = fresh_engine(config)
    samples = batches(config, 4)
    update(engine, samples, lr=1e-2)
    before = engine.state()

    first, second = engine.evaluate(samples), engine.evaluate(samples)

    assert first == second
    assert first[1] == sum(batch.num_answer_tokens for batch in samples)
    still = config.replace(model={"llm": {"lora": {"dropout": 0.0}}})
    reference = fresh_engine(still)
    reference.load_state(before)
    assert first[0] == pytest.approx(update(reference, samples, lr=0.0).loss_sum, rel=1e-6)
    assert engine.model.training
    assert all(torch.equal(tensor, before.trained[name]) for name, tensor in engine.state().trained.items())


def test_a_step_reports_the_loss_of_each_micro_batch(config):
    result = update(fresh_engine(config), batches(config, 4), lr=1e-3)

    assert len(result.losses) == 2
    assert sum(result.losses) == result.loss_sum


def test_the_engine_is_the_one_named(config):
    engine = build_engine(config, fresh_engine(config).model, "cpu")

    assert isinstance(engine, TorchEngine)
