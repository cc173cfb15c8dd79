"""A raw tree like MIMIC-IV 3.1 with notes and chest X-rays, of simulated patients: ``release`` says what is in it."""
