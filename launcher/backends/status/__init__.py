"""Runs on any backend: found by name, their state, health and results, and what they used."""
