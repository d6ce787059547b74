"""Running Headgate: settings, command line, services, jobs. Nothing imports it."""
