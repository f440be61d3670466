"""Dry runs: what policies would do."""
