"""Events → samples with labels: who is asked about, when, and what happened."""
