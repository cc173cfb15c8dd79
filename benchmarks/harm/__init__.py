"""What ``benchmarks/reliability.py`` does: calls that can be killed, mutations of files, prints of what is left."""
