"""A run behind HTTP: ``requests`` (bytes → plain values), ``rows`` and ``events`` (plain values → a question at the
run's door), ``answers`` (risks → plain values, and what is refused), ``audit`` (the log), ``http`` (token, limits,
status). The risks are those of ``mmnar predict``: nothing is computed here."""
