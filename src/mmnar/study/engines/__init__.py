"""Engines: local processes, Slurm, Ray."""
