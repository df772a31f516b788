"""Small models trained side by side: seeded apart from each other, stopped together."""

import threading

import pytest
import torch

from mats_ray.config.train import ScheduleConfig
from mats_ray.toy.fitting import first_weights, one_ahead, optimizers, side_by_side, update

SCHEDULE = ScheduleConfig(type="constant", warmup_steps=0)


def test_first_weights_follow_from_the_seed_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    layers = []
    for seed in (0, 0, 1):
        with first_weights(seed):
            layers.append(torch.nn.Linear(3, 3).weight)

    assert torch.equal(layers[0], layers[1])
    assert not torch.equal(layers[0], layers[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_matrices_go_to_muon_all_else_to_adamw():
    model = torch.nn.ModuleDict({"embeddings": torch.nn.Embedding(5, 4), "layer": torch.nn.Linear(4, 4)})

    (muon, highest), (adamw, _) = optimizers(model.named_parameters(), matrices=0.1, others=0.2)

    assert [tuple(p.shape) for p in muon.param_groups[0]["params"]] == [(4, 4)]
    assert sorted(tuple(p.shape) for p in adamw.param_groups[0]["params"]) == [(4,), (5, 4)]
    assert highest == 0.1


def test_an_update_moves_weights_at_the_rate_of_its_step():
    layer = torch.nn.Linear(4, 4)
    both = optimizers(layer.named_parameters(), matrices=0.1, others=0.2)
    before = [p.detach().clone() for p in layer.parameters()]
    layer(torch.ones(1, 4)).sum().backward()

    update(both, step=0, num_steps=2, schedule=ScheduleConfig(type="linear", warmup_steps=10))

    assert [group["lr"] for one, _ in both for group in one.param_groups] == pytest.approx([0.01, 0.02])
    assert all(not torch.equal(old, new) for old, new in zip(before, layer.parameters(), strict=True))


def test_each_is_named_when_it_is_finished_and_they_run_at_the_same_time():
    first_waits = threading.Barrier(2, timeout=60)

    assert sorted(side_by_side({"a": first_waits.wait, "b": first_waits.wait})) == ["a", "b"]


def test_one_thread_for_operations_inside_as_many_as_before_outside():
    before, inside = torch.get_num_threads(), []

    list(side_by_side({"a": lambda: inside.append(torch.get_num_threads())}))

    assert inside == [1]
    assert torch.get_num_threads() == before


def test_when_one_fails_the_others_end_with_their_next_update():
    layer, failed, updates = torch.nn.Linear(2, 2), threading.Event(), []
    both = optimizers(layer.named_parameters(), matrices=0.1, others=0.1)

    def fail():
        failed.set()
        raise ZeroDivisionError

    def train():
        failed.wait(60)
        for step in range(10**9):
            layer(torch.ones(1, 2)).sum().backward()
            update(both, step=step, num_steps=10**9, schedule=SCHEDULE)
            updates.append(step)

    with pytest.raises(ZeroDivisionError):
        list(side_by_side({"fails": fail, "trains": train}))

    assert len(updates) < 10**9


def test_items_come_in_their_order_and_the_next_is_made_while_one_is_used():
    made = [threading.Event() for _ in range(3)]

    def make():
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in one_ahead(make()):
        if number < 2:
            assert made[number + 1].wait(60)
    assert list(one_ahead(iter("abc"))) == ["a", "b", "c"]
    assert list(one_ahead([])) == []


def test_an_error_in_making_an_item_reaches_the_user_of_it():
    with pytest.raises(ZeroDivisionError):
        list(one_ahead(1 // (2 - number) for number in range(5)))


def test_muon_orthogonalises_in_float32():
    layer = torch.nn.Linear(24, 40)
    before, grad = (
        layer.weight.detach().clone(),
        torch.randn(40, 24, generator=torch.Generator().manual_seed(0)),
    )
    (muon, _), _ = optimizers(layer.named_parameters(), matrices=0.1, others=0.1)
    (settings,) = muon.param_groups
    layer.weight.grad, settings["lr"] = grad, 0.1

    muon.step()

    matrix = grad.double().T / grad.norm()  # of the first gradient, momentum changes only the length
    a, b, c = settings["ns_coefficients"]
    for _ in range(settings["ns_steps"]):
        gram = matrix @ matrix.T
        matrix = a * matrix + (b * gram + c * gram @ gram) @ matrix
    expected = before * (1 - 0.1 * settings["weight_decay"]) - 0.1 * (40 / 24) ** 0.5 * matrix.T
    torch.testing.assert_close(layer.weight.detach().double(), expected, rtol=1e-4, atol=1e-5)
