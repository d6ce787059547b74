"""What is deployed before it is there is no exception any more once it is."""

from ops.documentation import command_paths
from ops.settings import settings_table
from tests.ops.deploy.artefacts import COMING_COMMANDS, COMING_SETTINGS


def test_what_was_coming_has_not_come_yet() -> None:
    assert not COMING_COMMANDS & {path.split()[1] for path in command_paths()}
    assert not COMING_SETTINGS & {variable for variable, _, _ in settings_table()}
