"""The forms in which an answer can be asked for: one path each, the same request, the same risks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from mmnar.workflow.service.cds import cards_of
from mmnar.workflow.service.fhir import MEDIA_TYPE, bundle_of


@dataclass(frozen=True)
class Form:
    """
    Args:
        make: From the content of an answer to what is sent.
    """

    make: Callable[[dict[str, Any]], dict[str, Any]]
    media_type: str = "application/json"


FORMS: Final = {
    "/predict": Form(lambda answer: answer),
    "/predict/fhir": Form(lambda answer: bundle_of(answer, datetime.now(UTC)), MEDIA_TYPE),
    "/predict/cds": Form(cards_of),
}
