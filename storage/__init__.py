"""SQL, Redis and model files: what is kept, and how it is written and read. Knows nothing of torch or Kafka."""
