"""What every reader shares: raw files, shards of events, what was left out and why, identifiers, ages, code tables."""
