"""RecoGym and RecSim import, and do what they are known for, with gymnasium in the place of gym."""

import pytest

from ops.bench.recommendation.simulators import recogym_environments, recsim_environments
from tests.ops.bench.recommendation.benchmark_environment import in_benchmark_environment

pytestmark = [*in_benchmark_environment, pytest.mark.filterwarnings("ignore")]


def test_recogym_gives_views_and_clicks() -> None:
    recogym = recogym_environments()
    environment = recogym.RecoEnv1()
    environment.init_gym({**recogym.env_1_args, "num_products": 10, "random_seed": 1})
    logs = environment.generate_logs(num_offline_users=20)
    assert set(logs["z"]) == {"organic", "bandit"}
    assert 0 <= logs["c"].mean() < 0.2
    assert recogym_environments() is recogym


def test_recsim_gives_slates_a_response() -> None:
    settings = {"num_candidates": 10, "slate_size": 3, "resample_documents": True, "seed": 0}
    for module in recsim_environments():
        environment = module.create_environment({**settings, "slate_size": 1})
        assert len(environment.reset()["doc"]) == 10
        observation, reward, done, _ = environment.step([0])
        assert len(observation["response"]) == 1
        assert reward >= 0
        assert not done
