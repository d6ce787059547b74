"""Work that a person or a schedule starts: training, replaying dead letters, rebuilding Redis."""
