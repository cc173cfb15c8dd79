"""Write docs/methods.md from the methods' cards: ``python docs/make_methods.py``. A test holds the two together."""

from __future__ import annotations

from pathlib import Path

from mmnar.estimators.registry import estimator, known_names
from mmnar.report.cards import card_markdown

HEAD = """# Methods

Every deep method shares encoders, width, optimiser, training loop and early stopping, unless its encoder is its
substance; `preset=original` restores what was published, as far as paper or release say it (Adam's penalty becomes
AdamW's weight decay; the weights are those of the best epoch on the tune fold), and is refused where that is not
known. `preset=carebench` are the settings of the CareBench benchmark, of its seventeen methods. `model.image.…`
(backbone, file of weights, augmentation) and `model.series.…` (set of measurements, LSTM or Transformer over hourly
steps) set the shared encoders in the same words for every method that has them.
`model.append_pattern=true` concatenates the pattern before the head of any method: the control that tells whether it
merely lacks the pattern. At prediction a method sees the patient and nobody else who is scored; M3Care and HGMF look up
neighbours among training patients. `mmnar models NAME` prints a card.
"""


def methods() -> str:
    """The whole page."""
    cards = [card_markdown(name, estimator(name).card) for name in known_names()]
    return HEAD + "\n" + "\n\n".join(cards) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("methods.md").write_text(methods(), encoding="utf-8")
