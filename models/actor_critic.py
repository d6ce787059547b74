"""How a policy learns from slates: a click model, a critic, and an actor that starts as the click model.

One `update` for fresh slates and for stored ones. The click model is fitted by likelihood and shapes the user's state.
The critic is fitted to V-trace targets (Espeholt et al., 2018) with lambda-returns. The actor follows the policy
gradient with top-K correction (Chen et al., 2019), in which only what a user reacted to gets credit: weighing an item's
advantage with how often it is clicked is just what ranks slates best, and spares the noise of what was ignored.
docs/policy.md has the figures. Shape suffixes as in experience.py, and N slates.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.experience import Experience
from models.item_table import ItemTable
from models.policy import PolicyNetwork

#: Below every logit; -inf would make gradients that are no numbers.
IMPOSSIBLE = -1e9
#: Share that the newest batch has in the running size of advantages.
RECENT_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class LearnerConfig:
    """discount: of a reward one slate later; trace: lambda of the returns; floor: exploration that the policy acts
    with; the weights are those of the losses beside the actor's; largest_advantage: in units of their usual size;
    forgotten_ids: share of the items whose ids say nothing in a step; return_scale: the order of size of a discounted
    sum of rewards, in units of which everything is learnt."""

    discount: float = 0.99
    trace: float = 0.95
    floor: float = 0.05
    click_weight: float = 0.5
    critic_weight: float = 0.5
    organic_weight: float = 0.5
    entropy_weight: float = 0.0
    largest_advantage: float = 2.5
    largest_gradient: float = 1.0
    forgotten_ids: float = 0.0
    return_scale: float = 1.0


class Learner:
    """A network in training: its optimizer, and the usual size of advantages so far."""

    def __init__(
        self, network: PolicyNetwork, items: ItemTable, learning_rate: float, chance: torch.Generator | None = None
    ) -> None:
        """chance: draws what is forgotten."""
        self.network = network
        self.chance = chance
        self.items = items.to(network.device)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
        self.advantage_size: float | None = None

    def set_learning_rate(self, learning_rate: float) -> None:
        self.optimizer.param_groups[0]["lr"] = learning_rate


def update(learner: Learner, batch: Experience, config: LearnerConfig, *, act: bool = True) -> dict[str, float]:
    """One step on every loss, the actor's only if it is to `act`. Gives the losses."""
    network, batch = learner.network, batch.to(learner.network.device)
    answers = look(network, _some_without_ids(learner, config.forgotten_ids), batch, config.return_scale)
    losses = {"clicks": click_loss(network, answers)}
    total = config.click_weight * losses["clicks"]
    if config.organic_weight and bool(batch.predicted_BT.any()):
        losses["organic"] = organic_loss(network, answers, batch)
        total = total + config.organic_weight * losses["organic"]
    if act:
        log_weights_NC = floored(answers.logits_NC, answers.allowed_NC, config.floor)
        targets_N, advantage_NK = returns(answers, log_weights_NC.detach(), config)
        size = _usual_size(learner, advantage_NK)
        losses["critic"] = ((answers.value_N - targets_N) / size).square().mean()
        scaled_NK = (advantage_NK / size).clamp(-config.largest_advantage, config.largest_advantage)
        losses["actor"], entropy = actor_loss(answers, log_weights_NC, scaled_NK)
        losses["entropy"] = entropy.detach()
        total = total + config.critic_weight * losses["critic"] + losses["actor"] - config.entropy_weight * entropy
    learner.optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), config.largest_gradient)
    learner.optimizer.step()
    return {name: float(loss.detach()) for name, loss in losses.items()}


def _some_without_ids(learner: Learner, share: float) -> ItemTable:
    if not share:
        return learner.items
    forgotten_A = torch.rand(len(learner.items), generator=learner.chance) < share
    return learner.items.without_ids(forgotten_A.to(learner.network.device))


@dataclass(frozen=True, slots=True)
class Look:
    """What the network says at the N slates of a batch, and what is known of them; rows are in the order of sequence
    and time. present_BD bool says where in the batch they are. candidate_NCV: item vectors; before_BTH: the states
    before each engagement."""

    present_BD: Tensor
    before_BTH: Tensor
    used: Tensor
    vectors_UV: Tensor
    state_NH: Tensor
    candidate_NCV: Tensor
    logits_NC: Tensor
    allowed_NC: Tensor
    shown_NKV: Tensor
    picks_NK: Tensor
    logged_NC: Tensor
    reward_NK: Tensor
    value_N: Tensor
    last_value_B: Tensor


def look(network: PolicyNetwork, items: ItemTable, batch: Experience, return_scale: float) -> Look:
    """Item vectors are made of the items that occur, since the whole table may be large."""
    present_BD, candidates_NC = batch.seen_BD >= 0, batch.candidates_BDC[batch.seen_BD >= 0]
    used = torch.unique(torch.cat([batch.item_BT.flatten(), candidates_NC.flatten()]).clamp(min=0))
    vectors_UV = network.item_vectors(items.take(used))
    after_BTH = _states(network, batch, used, vectors_UV)
    before_BTH = functional.pad(after_BTH, (0, 0, 1, 0))
    state_NH = before_BTH[present_BD.nonzero()[:, 0], batch.seen_BD[present_BD]]
    candidate_NCV = vectors_UV[torch.searchsorted(used, candidates_NC.clamp(min=0))]
    picks_NK = batch.picks_BDK[present_BD]
    shown_NK1 = picks_NK.clamp(min=0)[:, :, None]
    ends_B = (batch.action_BT >= 0).sum(1)
    last_BH = before_BTH[torch.arange(len(batch), device=ends_B.device), ends_B]
    return Look(
        present_BD=present_BD,
        before_BTH=before_BTH,
        used=used,
        vectors_UV=vectors_UV,
        state_NH=state_NH,
        candidate_NCV=candidate_NCV,
        logits_NC=torch.einsum("nv,ncv->nc", network.query(state_NH), candidate_NCV),
        allowed_NC=(batch.log_weights_BDC[present_BD] > -math.inf) & (candidates_NC >= 0),
        shown_NKV=candidate_NCV.gather(1, shown_NK1.expand(-1, -1, candidate_NCV.shape[2])),
        picks_NK=picks_NK,
        logged_NC=batch.log_weights_BDC[present_BD].clamp(min=IMPOSSIBLE),
        reward_NK=batch.reward_BDK[present_BD] / return_scale,
        value_N=network.value(state_NH),
        last_value_B=torch.where(batch.continues_B, network.value(last_BH).detach(), 0.0),
    )


def _states(network: PolicyNetwork, batch: Experience, used: Tensor, vectors_UV: Tensor) -> Tensor:
    """After each engagement, [B, T, H]; what padding makes of it is not read."""
    known_BT = (batch.item_BT >= 0)[..., None]
    vectors_BTV = vectors_UV[torch.searchsorted(used, batch.item_BT.clamp(min=0))] * known_BT
    if not batch.item_BT.shape[1]:
        return vectors_BTV.new_zeros(len(batch), 0, network.config.hidden)
    return network.states(network.inputs(vectors_BTV, batch.action_BT.clamp(min=0), batch.value_BT, batch.gap_BT))


def click_loss(network: PolicyNetwork, answers: Look) -> Tensor:
    """Minus the log-likelihood of what was clicked of each slate, or of nothing. Of several clicks each counts for its
    share."""
    query_NV = network.click_query(answers.state_NH)
    logits_NK = torch.einsum("nv,nkv->nk", query_NV, answers.shown_NKV)
    logits_NK = logits_NK.masked_fill(answers.picks_NK < 0, IMPOSSIBLE)
    outcomes_NK1 = torch.cat([logits_NK, network.no_click(answers.state_NH)[:, None]], dim=1).log_softmax(1)
    clicked_NK = (answers.reward_NK > 0).float()
    truth_NK1 = torch.cat([clicked_NK, (clicked_NK.sum(1, keepdim=True) == 0).float()], dim=1)
    truth_NK1 = truth_NK1 / truth_NK1.sum(1, keepdim=True)
    return -(truth_NK1 * outcomes_NK1).sum(1).mean()


def organic_loss(network: PolicyNetwork, answers: Look, batch: Experience) -> Tensor:
    """Minus the log-likelihood of what users looked for by themselves, among all items of the batch."""
    rows_BT = batch.predicted_BT & (batch.item_BT >= 0)
    if not bool(rows_BT.any()):
        return answers.value_N.sum() * 0
    query_NV = network.click_query(answers.before_BTH[:, :-1][rows_BT])
    return functional.cross_entropy(
        query_NV @ answers.vectors_UV.T, torch.searchsorted(answers.used, batch.item_BT[rows_BT])
    )


def floored(logits_NC: Tensor, allowed_NC: Tensor, floor: float) -> Tensor:
    """The log-weights that a slate is drawn with, as slates.floored_log_weights makes them; IMPOSSIBLE where nothing
    can be chosen."""
    log_p_NC = logits_NC.masked_fill(~allowed_NC, IMPOSSIBLE).log_softmax(1)
    if floor > 0:
        log_uniform_N1 = -allowed_NC.sum(1, keepdim=True).clamp(min=1).log().to(log_p_NC.dtype)
        rest = math.log1p(-floor) if floor < 1 else IMPOSSIBLE
        log_p_NC = torch.logaddexp(log_p_NC + rest, log_uniform_N1 + math.log(floor))
    return log_p_NC.masked_fill(~allowed_NC, IMPOSSIBLE)


def log_conditionals(log_weights_NC: Tensor, picks_NK: Tensor) -> Tensor:
    """Log-probability of each position's pick given those above it, 0 for none, [N, K]."""
    found = []
    for position in range(picks_NK.shape[1]):
        pick_N1 = picks_NK[:, position : position + 1]
        chosen_N1 = log_weights_NC.gather(1, pick_N1.clamp(min=0))
        log_share_N1 = chosen_N1 - log_weights_NC.logsumexp(1, keepdim=True)
        found.append(log_share_N1.masked_fill(pick_N1 < 0, 0.0))
        log_weights_NC = log_weights_NC.scatter(
            1, pick_N1.clamp(min=0), chosen_N1.masked_fill(pick_N1 >= 0, IMPOSSIBLE)
        )
    return torch.cat(found, dim=1)


@torch.no_grad()
def returns(answers: Look, log_weights_NC: Tensor, config: LearnerConfig) -> tuple[Tensor, Tensor]:
    """V-trace targets of the critic, [N], and each position's advantage, [N, K], 0 without a reaction.

    A slate's weight is the ratio of its probabilities under this policy and the one that drew it, at most 1. What came
    later is shared by the positions that were reacted to.
    """
    present_BD = answers.present_BD

    def spread(value_N: Tensor) -> Tensor:
        return value_N.new_zeros(present_BD.shape).masked_scatter(present_BD, value_N)

    ratio_N = (
        (
            log_conditionals(log_weights_NC, answers.picks_NK).sum(1)
            - log_conditionals(answers.logged_NC, answers.picks_NK).sum(1)
        )
        .clamp(max=0.0)
        .exp()
    )
    value_BD, reward_BD, ratio_BD = spread(answers.value_N), spread(answers.reward_NK.sum(1)), spread(ratio_N)
    last_BD = present_BD & ~functional.pad(present_BD[:, 1:], (0, 1))
    end_B1 = answers.last_value_B[:, None]
    next_BD = torch.where(last_BD, end_B1, functional.pad(value_BD[:, 1:], (0, 1)))
    surprise_BD = ratio_BD * (reward_BD + config.discount * next_BD - value_BD)
    carried_B, target_BD = torch.zeros_like(answers.last_value_B), value_BD.clone()
    for place in reversed(range(present_BD.shape[1])):
        carried_B = surprise_BD[:, place] + config.discount * config.trace * ratio_BD[:, place] * carried_B
        target_BD[:, place] += carried_B
    future_BD = torch.where(last_BD, end_B1, functional.pad(target_BD[:, 1:], (0, 1)))
    later_N = (config.discount * future_BD - value_BD)[present_BD]
    reacted_NK = answers.reward_NK != 0
    share_NK = reacted_NK / reacted_NK.sum(1, keepdim=True).clamp(min=1)
    return target_BD[present_BD], answers.reward_NK + later_N[:, None] * share_NK


def actor_loss(answers: Look, log_weights_NC: Tensor, advantage_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Policy gradient for the items that were reacted to, and the entropy of the first position.

    An item's probability to be in a slate of K is K (1 - pi)^(K - 1) times as steep as pi itself.
    """
    picks_NK, size = answers.picks_NK.clamp(min=0), answers.picks_NK.shape[1]
    log_pi_NK = log_weights_NC.gather(1, picks_NK)
    with torch.no_grad():
        now_NK = log_conditionals(log_weights_NC, answers.picks_NK)
        ratio_NK = (now_NK - log_conditionals(answers.logged_NC, answers.picks_NK)).clamp(max=0.0).exp()
        top_NK = size * (1 - log_pi_NK.exp()) ** (size - 1)
        credit_NK = ratio_NK * top_NK * advantage_NK * (answers.reward_NK != 0) * (answers.picks_NK >= 0)
    entropy = -(log_weights_NC.exp() * log_weights_NC).sum(1).mean()
    return -(credit_NK * log_pi_NK).sum(1).mean(), entropy


def _usual_size(learner: Learner, advantage_NK: Tensor) -> float:
    """Root mean square of advantages over the last batches, those without a reaction left out."""
    found = advantage_NK[advantage_NK != 0]
    now = float(found.square().mean().sqrt()) if len(found) else 0.0
    before = learner.advantage_size
    learner.advantage_size = now if not before else (1 - RECENT_SHARE) * before + RECENT_SHARE * now
    return max(learner.advantage_size, 1e-6)
