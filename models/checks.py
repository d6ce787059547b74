"""What every detector must pass before it may be registered: it answers, the answers tell events apart, and the two
ways of running it (steps with a remembered state when live, whole sequences in training) agree."""

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from models.artifact import TrainedDetector
from models.events import Events
from models.features import FeatureBuilder
from models.scoring import Scorer

TOLERANCE = 1e-5
#: Small, so that an account's events come in different batches.
STEP_BATCH = 16

Scores = npt.NDArray[np.float64]


def failed_checks(model: TrainedDetector, probe: Events) -> list[str]:
    """What is wrong with the model, in words; empty where nothing is. probe: some hundred typical events or more."""
    weights = model.network.state_dict().items()
    unfit = [name for name, value in weights if not bool(torch.isfinite(value).all())]
    if unfit:
        return [f"weights that are not finite: {', '.join(unfit)}"]
    scores, in_sequence = live_scores(model, probe), sequence_scores(model, probe)
    failed = []
    if not len(scores) or not np.isfinite(scores).all() or not np.isfinite(in_sequence).all():
        failed.append("scores that are no numbers")
    elif (scores < 0).any() or (scores > 1).any():
        failed.append("scores outside 0 to 1")
    elif np.ptp(scores) == 0:
        failed.append(f"the same score {scores[0]:.6f} for every event")
    elif (difference := float(np.abs(scores - in_sequence).max())) > TOLERANCE:
        failed.append(f"scores that differ by {difference:.1e} between steps and sequences")
    if not (np.isfinite(model.threshold) and model.threshold > 0):
        failed.append(f"a threshold of {model.threshold}")
    return failed


def live_scores(model: TrainedDetector, probe: Events) -> Scores:
    """float64[m] of the events that are no duplicates, batch after small batch as when live."""
    scorer = Scorer(model)
    batches = [np.arange(first, min(first + STEP_BATCH, len(probe))) for first in range(0, len(probe), STEP_BATCH)]
    scored = [scorer.score(probe.take(rows)) for rows in batches]
    return np.concatenate([np.zeros(0), *(batch.score[~batch.duplicate] for batch in scored)])


@torch.inference_mode()
def sequence_scores(model: TrainedDetector, probe: Events) -> Scores:
    """float64[m] of the events that are no duplicates, each account's in one sequence as in training."""
    network = model.network.cpu().eval()
    built = FeatureBuilder(network.config.reporting_limit).build(probe)
    categories = torch.from_numpy(built.categories)
    x_NX = network.inputs(torch.from_numpy(built.features), categories, built.memos)
    after_NH = x_NX.new_empty(len(x_NX), network.config.hidden)
    before_NH = torch.zeros_like(after_NH)
    for first, last in zip(built.runs.first.tolist(), built.runs.last.tolist(), strict=True):
        states_1TH, _ = network.gru(x_NX[None, first : last + 1])
        after_NH[first : last + 1] = states_1TH[0]
        before_NH[first : last + 1] = functional.pad(states_1TH[0, :-1], (0, 0, 1, 0))
    surprises, unusual = network.surprise(before_NH, x_NX, categories)
    raw = model.raw(network.logits(after_NH, x_NX, surprises, torch.from_numpy(built.labels)), unusual)
    scores = np.empty(len(probe))
    scores[built.rows] = model.calibration.score(raw.double().numpy())
    return scores[~built.duplicate]
