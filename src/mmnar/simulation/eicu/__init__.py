"""A raw tree like eICU-CRD 2.0, of simulated patients: ``release`` says what is in it."""
