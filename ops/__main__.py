"""`python -m ops` is `headgate`."""

from ops.cli import main

main()
