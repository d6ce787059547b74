"""One lesson of the recommender during the demo, as a process of its own: as `headgate retrain --model recommender
--once --json`, but short, as the worker needs the machine too."""

import json

import torch

from models.policy_history import PolicyTrainingRefused
from models.train_policy import PolicyTrainingConfig
from ops.clock import utc_now
from ops.compose_recommendations import slate_rules
from ops.jobs.retrain_policy import PolicyOutcome, PolicyRules, PolicyWorkplace, retrain_policy_once
from ops.model_registry import open_registry
from ops.settings import Settings, read_settings
from ops.terminal import fail
from storage.database import open_database

#: Seconds of training, and units of the network.
TRAINING_SECONDS, HIDDEN = 10.0, 32


def teach(settings: Settings) -> PolicyOutcome:
    """Raises what retrain_policy_once raises."""
    torch.set_num_threads(1)
    database = open_database(settings.database.get_secret_value())
    work = PolicyWorkplace(
        database,
        open_registry(settings, database, registers=True),
        f"{settings.topic_prefix}items",
        utc_now,
        progress=lambda stage, done: None,
    )
    training = PolicyTrainingConfig(hidden=HIDDEN, floor=settings.exploration, time_budget_seconds=TRAINING_SECONDS)
    rules = PolicyRules(slates=slate_rules(settings), training=training, reward_window=settings.reward_window)
    return retrain_policy_once(work, rules)


def main() -> None:
    try:
        print(json.dumps(teach(read_settings()).as_json()))
    except PolicyTrainingRefused as refusal:
        fail(str(refusal))


if __name__ == "__main__":
    main()
