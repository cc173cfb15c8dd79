"""A run behind HTTP: ``requests`` (bytes → plain values), ``rows`` and ``events`` (plain values → a question at the
run's door), ``answers`` (risks → plain values, and what is refused), ``forms`` (answers as FHIR or CDS Hooks),
``audit`` (the log), ``fields`` (the page for one patient by hand), ``http`` (token, limits, status); and the log read
again: ``logged``, ``outcomes``. The risks are those of ``mmnar predict``: nothing is computed here."""
