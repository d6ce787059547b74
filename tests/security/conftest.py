"""Whole workers on real services (tests/deployment.py), to be attacked."""

from tests.flow_fixtures import deploy, deployment, detector

__all__ = ["deploy", "deployment", "detector"]
