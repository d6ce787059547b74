"""What every policy must pass before it may be registered: it answers, different users get different slates, and the
two ways of running it (steps with a remembered state when live, whole sequences in training) agree."""

import torch
from torch import Tensor

from models.experience import Experience
from models.item_content import ITEM_CONTENT
from models.item_table import ItemTable
from models.policy import TrainedPolicy

TOLERANCE = 1e-4
#: Positions that must not be the same for everyone.
COMPARED = 6


@torch.inference_mode()
def failed_policy_checks(
    model: TrainedPolicy, items: ItemTable, probe: Experience, *, content: int = ITEM_CONTENT
) -> list[str]:
    """What is wrong with the policy, in words; empty where nothing is. probe: engagements of some users; content: the
    columns that live items have."""
    network = model.network.cpu().eval()
    unfit = [name for name, value in network.state_dict().items() if not bool(torch.isfinite(value).all())]
    if unfit:
        return [f"weights that are not finite: {', '.join(unfit)}"]
    if network.config.content != content:
        return [f"made for {network.config.content} columns of item content, not {content}"]
    vectors_AV = network.item_vectors(items)
    known_BT1 = (probe.item_BT >= 0)[..., None]
    columns = (
        vectors_AV[probe.item_BT.clamp(min=0)] * known_BT1,
        probe.action_BT.clamp(min=0),
        probe.value_BT,
        probe.gap_BT,
    )
    in_sequence_BTH = network.states(network.inputs(*columns))
    stepped_BH, stepped = in_sequence_BTH.new_zeros(len(probe), network.config.hidden), []
    for place in range(probe.action_BT.shape[1]):
        stepped_BH = network.step(stepped_BH, *(column[:, place] for column in columns))
        stepped.append(stepped_BH)
    difference = float((torch.stack(stepped, 1) - in_sequence_BTH).abs().max())
    states_BH = _last(in_sequence_BTH, probe)
    logits_BA = network.query(states_BH) @ vectors_AV.T
    failed = []
    if not bool(torch.isfinite(logits_BA).all()):
        failed.append("preferences that are no numbers")
    elif _same_for_everyone(logits_BA):
        failed.append("the same slate for everyone")
    if not difference <= TOLERANCE:
        failed.append(f"states that differ by {difference:.1e} between steps and sequences")
    return failed


def _last(in_sequence_BTH: Tensor, probe: Experience) -> Tensor:
    ends_B = (probe.action_BT >= 0).sum(1) - 1
    return in_sequence_BTH[torch.arange(len(probe)), ends_B.clamp(min=0)]


def _same_for_everyone(logits_BA: Tensor) -> bool:
    best = logits_BA.topk(min(COMPARED, logits_BA.shape[1]), dim=1).indices
    return logits_BA.shape[1] > 1 and bool((best == best[0]).all())
