"""Detectors and policies in numpy and torch. Knows nothing of Kafka, SQL or Redis."""
