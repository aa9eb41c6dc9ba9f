"""Programs to start from: each runs as it stands, in two terminals; both take the seed from STT_SHARED_SEED."""
