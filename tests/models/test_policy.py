"""The policy network: steps and sequences agree, odd numbers do no harm, and its file reads back exactly or not at
all."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.artifact import BadModel
from models.engagements import ACTIONS
from models.item_content import ITEM_CONTENT, WORDS
from models.item_table import ItemTable
from models.policy import PolicyConfig, PolicyNetwork, TrainedPolicy

CONFIG = PolicyConfig(content=5, hidden=8, vector=6, buckets=11)


def small_policy(seed: int = 0) -> TrainedPolicy:
    """With weights all over, as after training."""
    torch.manual_seed(seed)
    network = PolicyNetwork(CONFIG)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) / 2)
    return TrainedPolicy(network.eval(), {"seed": seed})


POLICY = small_policy()
FILE = POLICY.to_bytes()
HEADER = int.from_bytes(FILE[:8], "little")
DESCRIPTION: dict[str, Any] = msgspec.json.decode(msgspec.json.decode(FILE[8 : 8 + HEADER])["__metadata__"]["headgate"])
WEIGHTS = safetensors.torch.load(FILE)


def engagements_of(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    value = np.where(rng.random(count) < 0.5, rng.normal(size=count) * 100, np.nan)
    gap = np.where(rng.random(count) < 0.8, rng.exponential(1e5, count), np.nan)
    return (
        torch.from_numpy(rng.normal(size=(count, CONFIG.vector))).float(),
        torch.from_numpy(rng.integers(0, len(ACTIONS), count)),
        torch.from_numpy(value).float(),
        torch.from_numpy(gap).float(),
    )


@torch.inference_mode()
@given(st.lists(st.integers(1, 5), min_size=1, max_size=40), st.integers(0, 100))
def test_steps_waves_and_sequences_lead_to_the_same_states(lengths: list[int], seed: int) -> None:
    lengths = sorted(lengths, reverse=True)
    network = POLICY.network
    columns = engagements_of(sum(lengths), seed)
    start = torch.randn(len(lengths), CONFIG.hidden, generator=torch.Generator().manual_seed(seed))
    waves = [sum(length > k for length in lengths) for k in range(lengths[0])]
    first = np.cumsum([0, *waves])
    in_waves = network.steps(network.inputs(*columns), waves, start)
    for user, length in enumerate(lengths):
        rows = torch.from_numpy(first[:length] + user)
        state, states = start[user][None], []
        for row in rows:
            state = network.step(state, *(column[row][None] for column in columns))
            states.append(state[0])
        one_by_one = torch.stack(states)
        torch.testing.assert_close(in_waves[rows], one_by_one, rtol=0, atol=1e-5)
        x_1TX = network.inputs(*(column[rows] for column in columns))[None]
        torch.testing.assert_close(network.states(x_1TX, start[user][None])[0], one_by_one, rtol=0, atol=1e-5)


@torch.inference_mode()
@given(
    st.sampled_from([0.0, -5.0, 1e-30, 1e38, -1e38, float("inf"), float("-inf"), float("nan")]),
    st.sampled_from([0.0, -5.0, 1e-30, 1e38, float("inf"), float("-inf"), float("nan")]),
)
def test_no_value_and_no_gap_makes_a_state_that_is_no_number(value: float, gap: float) -> None:
    vectors, action, _, _ = engagements_of(4, 0)
    network = POLICY.network
    state = network.step(torch.zeros(4, 8), vectors, action, torch.full((4,), value), torch.full((4,), gap))
    for answer in (state, network.query(state), network.no_click(state), network.value(state)):
        assert torch.isfinite(answer).all()


@torch.inference_mode()
def test_a_missing_value_is_not_a_value_of_zero() -> None:
    vectors, action, _, gap = engagements_of(4, 0)
    state = torch.zeros(4, 8)
    without = POLICY.network.step(state, vectors, action, torch.full((4,), torch.nan), gap)
    assert not torch.allclose(without, POLICY.network.step(state, vectors, action, torch.zeros(4), gap))


@torch.inference_mode()
def test_the_last_component_of_an_item_vector_is_added_to_its_logit() -> None:
    network, state = POLICY.network, torch.randn(3, CONFIG.hidden)
    vectors = network.item_vectors(ItemTable(torch.randn(4, 5), torch.tensor([1, 2, 3, 4])))
    raised = vectors.clone()
    raised[2, -1] += 1.5
    for query in (network.query(state), network.click_query(state)):
        difference = query @ raised.T - query @ vectors.T
        torch.testing.assert_close(difference, torch.tensor([0.0, 0.0, 1.5, 0.0]).expand(3, 4))


@torch.inference_mode()
def test_an_untrained_id_adds_nothing_to_what_the_content_says() -> None:
    network, content = PolicyNetwork(CONFIG), torch.randn(2, 5)
    vectors = network.item_vectors(ItemTable(content, torch.tensor([1, 9])))
    assert torch.equal(vectors, network.item_vectors(ItemTable(content, torch.tensor([0, -1]))))
    assert not torch.allclose(vectors[0], vectors[1])


@torch.inference_mode()
def test_an_actor_that_acts_as_clicked_has_the_click_models_query() -> None:
    network, state = small_policy().network, torch.randn(3, CONFIG.hidden)
    assert not torch.allclose(network.query(state), network.click_query(state))
    network.act_as_clicked()
    assert torch.equal(network.query(state), network.click_query(state))


@torch.inference_mode()
def test_a_policy_read_back_is_the_same() -> None:
    read = TrainedPolicy.from_bytes(FILE)
    assert read.to_bytes() == FILE
    assert (read.network.config, read.notes) == (CONFIG, {"seed": 0})
    state = torch.randn(3, CONFIG.hidden)
    assert torch.equal(read.network.query(state), POLICY.network.query(state))
    assert not read.network.training


def file_with(changes: dict[str, Any] | None = None, weights: dict[str, Tensor | None] | None = None) -> bytes:
    """The file with other entries in its description or its config, and other weights or none."""
    description = msgspec.json.decode(msgspec.json.encode(DESCRIPTION))
    for name, value in (changes or {}).items():
        (description["config"] if name in description["config"] else description)[name] = value
    tensors = {name: value for name, value in {**WEIGHTS, **(weights or {})}.items() if value is not None}
    return safetensors.torch.save(tensors, {"headgate": msgspec.json.encode(description).decode()})


BIAS = "actor.2.bias"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: file_with({"format": "headgate-detector-1"}), "format 'headgate-detector-1' is unknown"),
        (lambda: file_with({"config": 3}), "description is wrong.*config"),
        (lambda: file_with({"hidden": 0}), "0 hidden units"),
        (lambda: file_with({"vector": 1}), "1 vector components"),
        (lambda: file_with({"content": 2**40}), f"{2**40} content columns"),
        (lambda: file_with({"buckets": -1}), "-1 buckets"),
        (lambda: file_with({"hidden": 16}), "has shape"),
        (lambda: file_with(weights={BIAS: None}), f"{BIAS} has shape None"),
        (lambda: file_with(weights={"stranger": torch.zeros(2)}), "stranger has shape"),
        (lambda: file_with(weights={BIAS: torch.full((5,), torch.nan)}), f"{BIAS} holds weights that are not finite"),
        (
            lambda: file_with(weights={BIAS: torch.zeros(5).double()}),
            "are not finite 32-bit",
        ),
        (lambda: safetensors.torch.save(WEIGHTS, {"headgate": "[]"}), "description is wrong"),
        (lambda: safetensors.torch.save(WEIGHTS), "not a policy"),
        (lambda: FILE[: len(FILE) // 2], "not a policy"),
        (lambda: b"", "not a policy"),
    ],
)
def test_a_foreign_or_damaged_file_is_refused_with_a_clear_reason(data: Callable[[], bytes], message: str) -> None:
    with pytest.raises(BadModel, match=message):
        TrainedPolicy.from_bytes(data())


places = st.one_of(st.integers(0, HEADER + 8), st.integers(0, len(FILE) - 1))


@settings(max_examples=200)
@given(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_file_is_refused_or_still_a_whole_policy(damage: list[tuple[int, int]]) -> None:
    data = bytearray(FILE)
    for place, value in damage:
        data[place] = value
    with suppress(BadModel):
        model = TrainedPolicy.from_bytes(bytes(data))
        assert all(bool(torch.isfinite(value).all()) for value in model.network.state_dict().values())


@torch.inference_mode()
@pytest.mark.parametrize(("action", "closer"), [("click", True), ("purchase", True), ("dislike", False)])
def test_an_untrained_policy_follows_what_a_user_likes(action: str, closer: bool) -> None:
    torch.manual_seed(3)
    network, content = PolicyNetwork(PolicyConfig()), torch.zeros(3, ITEM_CONTENT)
    content[0, WORDS + 3] = content[1, WORDS + 3] = content[2, WORDS + 4] = 1.0
    vectors = network.item_vectors(ItemTable(content, torch.tensor([1, 2, 3])))

    def preference(name: str, hidden: Tensor) -> tuple[Tensor, float]:
        number = torch.tensor([ACTIONS.index(name)])
        hidden = network.step(hidden, vectors[:1], number, torch.tensor([torch.nan]), torch.tensor([60.0]))
        logits = (network.click_query(hidden) @ vectors.T)[0]
        return hidden, float(logits[1] - logits[2])

    hidden, after = preference(action, torch.zeros(1, 64))
    assert (after > 0.2) if closer else (after < -0.2)
    for _ in range(10):
        hidden, after_impressions = preference("impression", hidden)
    assert abs(after_impressions) > abs(after) / 2


@torch.inference_mode()
def test_prices_do_not_make_items_alike() -> None:
    network, content = PolicyNetwork(PolicyConfig()), torch.zeros(2, ITEM_CONTENT)
    content[1, -2:] = torch.tensor([1.0, 9.0])
    vectors = network.item_vectors(ItemTable(content, torch.tensor([1, 2])))
    assert torch.equal(vectors[0], vectors[1])
