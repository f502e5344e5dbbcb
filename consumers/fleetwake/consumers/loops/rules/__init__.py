"""The rules: one per file, each a small state machine over a session's calls."""
