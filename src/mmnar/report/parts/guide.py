"""The reader's guide: what the words of a report mean, before they are used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mmnar.render.blocks import Block, Fact, Facts, Paragraph

FIRST: Final = (
    "A model gives each patient a risk between nothing and one. The rest of the page says whether these risks rank "
    "patients rightly, whether they mean what they say, and what would follow if somebody acted on them."
)
WORDS: Final = {
    "Test fold": "patients set apart before anything was fitted; all figures are of them unless said otherwise",
    "Out of fold": "a patient's risk by a fit that learned from others only",
    "Plain control": "a simple method every other has to beat; if none does, use the simple one",
    "AUROC": "of all pairs of a patient with the outcome and one without, the share in which the first has the higher "
    "risk. One half is a coin, one is perfect",
    "Interval": "the values that fit what was seen, 95 % unless said otherwise; it comes from drawing patients anew",
    "No difference shown": "the patients do not suffice to tell the two apart. It does not say that they are equal",
    "Corrected p": "how often chance alone does as much, made stricter for the number of questions asked (Holm)",
    "Calibration": "do, of all patients with a risk of one in ten, one in ten have the outcome? Slope one and observed "
    "over expected one: yes",
    "Alert, threshold": "everyone whose risk reaches the threshold gets an alert. Thresholds were fixed beforehand",
    "Net benefit": "patients found less false alarms, at the price of a false alarm that the threshold stands for. "
    "Alerting nobody is worth nothing",
    "Pattern": "which modalities (laboratory, notes, images …) a patient has. It often tells how ill somebody thought "
    "the patient was",
    "Rectifier": "one correction of the risk per pattern, fitted out of fold; its results stand below the model's own",
    "Withheld, few": "the figure would tell of fewer than ten patients",
}


def guide() -> Iterator[Block]:
    """Half a page."""
    yield Paragraph(FIRST)
    yield Facts(tuple(Fact(word, (f"{meaning}.",)) for word, meaning in WORDS.items()), look="columns")
