"""The flow: the only package that knows Kafka, and the one that joins models with storage."""
