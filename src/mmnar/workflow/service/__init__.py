"""A run behind HTTP: ``requests`` (JSON → files that a door reads), ``answers`` (risks → JSON), ``audit`` (the log),
``http`` (token, limits, status). The risks are those of ``workflow.predict``: nothing is computed here."""
