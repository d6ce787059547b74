"""The errors that are a user's mistake or an absent service: shown as one line, never as a traceback."""

from alembic.util import CommandError

from models.artifact import BadModel
from models.compress import CannotCompress
from models.policy_history import PolicyTrainingRefused
from models.sequences import TrainingRefused
from ops.bench.measure import BenchmarkFailed
from ops.compose import WorkerFailed
from ops.dashboard.roles import DashboardRefused
from ops.demo.prepare import DemoRefused
from ops.health_server import CannotListen
from ops.jobs.backtest import BacktestRefused
from ops.jobs.data_report import UnwritableReport
from ops.jobs.dead_letters import ReplayFailed
from ops.jobs.erase import ErasureRefused, ErasureUnfinished
from ops.jobs.history_files import UnreadableHistory
from ops.jobs.model_keys import KeyFileRefused
from ops.jobs.rebuild_redis import NotRebuilt
from ops.jobs.rescale import RescaleRefused
from ops.jobs.retrain_command import BadSchedule
from ops.jobs.retrain_schedule import RetrainingStopped
from ops.service import ServiceUnavailable
from ops.settings import SettingsError
from ops.simulate.cards import BadSimulation
from storage.accepted_losses import NothingLost
from storage.database import BadDatabaseUrl, DatabaseRefused, DatabaseUnavailable, SchemaOutdated
from storage.exclusive import AlreadyRunning
from storage.model_trust import CannotSign
from storage.partition_counts import CountChanged
from storage.registry import CorruptModel, ModelInUse, UnknownModel
from streams.kafka import KafkaUnavailable, TopicMissing

KNOWN_ERRORS = (
    AlreadyRunning,
    BacktestRefused,
    BadDatabaseUrl,
    BadModel,
    BadSchedule,
    BadSimulation,
    BenchmarkFailed,
    CannotCompress,
    CannotListen,
    CannotSign,
    CommandError,
    CorruptModel,
    CountChanged,
    DashboardRefused,
    DatabaseRefused,
    DatabaseUnavailable,
    DemoRefused,
    ErasureRefused,
    ErasureUnfinished,
    KafkaUnavailable,
    KeyFileRefused,
    ModelInUse,
    NotRebuilt,
    NothingLost,
    PolicyTrainingRefused,
    ReplayFailed,
    RescaleRefused,
    RetrainingStopped,
    SchemaOutdated,
    ServiceUnavailable,
    SettingsError,
    TopicMissing,
    TrainingRefused,
    UnknownModel,
    UnreadableHistory,
    UnwritableReport,
    WorkerFailed,
)
