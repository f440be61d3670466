"""Impairment with known truth: what the service tells of real media, against what a relay did to it."""
