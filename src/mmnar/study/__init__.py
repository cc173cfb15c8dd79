"""Studies: a table of runs (data × row × setting × fold × seed), made once each, judged together."""
