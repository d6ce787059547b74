"""The console: an HTTP API over what SQL, Kafka and Redis hold, and the pages that use it."""
