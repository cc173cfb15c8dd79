"""The items of TRIPOD+AI (Collins et al., BMJ 2024;385:e078378, CC BY 4.0): what a run says, and what it leaves blank.

Numbers are those of the statement's checklist; what an item asks for is said in our own, fewer words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mmnar.render.blocks import Block, Cell, Paragraph, named, table_of
from mmnar.report.model_card.answers import answers
from mmnar.report.model_card.blanks import DEVELOPERS, ETHICS, HOSPITAL, OWNERS, Answer, Blank, answer_cells
from mmnar.report.model_card.inputs import CardInputs

ITEMS: Final = {
    "1": "Title: development or evaluation, whom, which outcome",
    "2": "Abstract, by its own checklist",
    "3a": "Healthcare context and why a model",
    "3b": "Target population, purpose in care, users",
    "3c": "Known health inequalities between groups",
    "4": "Objectives: development, evaluation or both",
    "5a": "Sources of data, why these, how representative",
    "5b": "Dates of the data",
    "6a": "Setting, number and place of centres",
    "6b": "Who was eligible",
    "6c": "Treatments received",
    "7": "Preparation and checks of data, alike across groups?",
    "8a": "Outcome and its horizon, how assessed, why this one, alike across groups?",
    "8b": "Who assessed an outcome that needs judgement",
    "8c": "Blinding of that assessment",
    "9a": "How predictors were chosen",
    "9b": "Definition of all predictors, how and when measured",
    "9c": "Who assessed predictors that need judgement",
    "10": "Sample size and why it suffices",
    "11": "Missing data, and why any was left out",
    "12a": "How data were used and divided",
    "12b": "How predictors entered: form, scale, transformation",
    "12c": "Type of model, steps of building, tuning, internal validation",
    "12d": "Differences between centres, how handled",
    "12e": "Measures and plots of performance",
    "12f": "Updating after evaluation",
    "12g": "How predictions were computed",
    "13": "Class imbalance",
    "14": "Approaches to fairness",
    "15": "Output, and where thresholds are from",
    "16": "Differences between data of development and of evaluation",
    "17": "Ethical approval and consent",
    "18a": "Funding",
    "18b": "Conflicts of interest",
    "18c": "Protocol",
    "18d": "Registration",
    "18e": "Availability of data",
    "18f": "Availability of code",
    "19": "Involvement of patients and the public",
    "20a": "Flow of participants, with and without the outcome",
    "20b": "Characteristics, events, missing data, differences between groups",
    "20c": "Data of evaluation beside those of development",
    "21": "Participants and events in each analysis",
    "22": "The full model, so that others can use it; restrictions",
    "23a": "Performance with intervals, also of groups",
    "23b": "Differences in performance between centres",
    "24": "Results of updating",
    "25": "Interpretation, fairness included",
    "26": "Limits and what follows from them",
    "27a": "Poor or absent inputs in use",
    "27b": "What users must do, and know",
    "27c": "Next steps",
}

BLANKS: Final = {
    "1": Blank(DEVELOPERS, "the target population in the title"),
    "2": Blank(DEVELOPERS, "an abstract"),
    "3a": Blank(DEVELOPERS, "the context, and earlier models"),
    "3b": Blank(HOSPITAL, "whom it is for, where in care, who uses it"),
    "3c": Blank(DEVELOPERS, "what is known of inequalities in this outcome"),
    "5a": Blank(DEVELOPERS, "why these data, and how well they stand for the target population"),
    "5b": Blank(OWNERS, "first and last date, end of follow-up"),
    "6a": Blank(OWNERS, "level of care, number and place of centres"),
    "6c": Blank(DEVELOPERS, "treatments between prediction and outcome, and what was done about them"),
    "7": Blank(DEVELOPERS, "whether records are as good in every group"),
    "8a": Blank(DEVELOPERS, "why this outcome, and whether it is recorded alike in every group"),
    "8b": Blank(OWNERS, "whether anybody judged the outcome, and who"),
    "8c": Blank(OWNERS, "whether whoever judged it knew the inputs"),
    "9a": Blank(DEVELOPERS, "why the store has these features and no others"),
    "9b": Blank(OWNERS, "how each is measured"),
    "9c": Blank(OWNERS, "who wrote the notes and read the images"),
    "10": Blank(DEVELOPERS, "how the size came about"),
    "12d": Blank(DEVELOPERS, "what was done about differences between centres"),
    "14": Blank(DEVELOPERS, "what else was done, and why"),
    "17": Blank(ETHICS, "approval, and consent or its waiver"),
    "18a": Blank(DEVELOPERS, "who paid, and what say they had"),
    "18b": Blank(DEVELOPERS, "interests of all authors"),
    "18c": Blank(DEVELOPERS, "where the protocol is, or that there is none"),
    "18d": Blank(DEVELOPERS, "register and number, or that there is none"),
    "18e": Blank(OWNERS, "who may have the data, on what terms"),
    "18f": Blank(DEVELOPERS, "where code of their own is, of preparation for example"),
    "19": Blank(DEVELOPERS, "how patients took part, or that they did not"),
    "20b": Blank(OWNERS, "treatments and time of follow-up"),
    "22": Blank(DEVELOPERS, "who may have the run's folder, on what terms"),
    "25": Blank(DEVELOPERS, "what the results mean beside the aims and earlier studies"),
    "26": Blank(DEVELOPERS, "what the limits do to the results"),
    "27a": Blank(HOSPITAL, "what is done where an input is wrong or late"),
    "27b": Blank(HOSPITAL, "what users must do, and what they must know"),
    "27c": Blank(DEVELOPERS, "what is to be studied next"),
}
"""What a run cannot know of an item, whether it knows the rest of it or not."""
UNASKED: Final = {
    "16": Blank(DEVELOPERS, "another store to judge it on (--on), and how that differs in setting"),
    "20c": Blank(DEVELOPERS, "another store to judge it on (--on)"),
    "23b": Blank(DEVELOPERS, "performance in each centre"),
}
"""What a run can say of some items, and did not."""
HOW: Final = (
    "What an item asks for is told here in short; the checklist is that of Collins et al., BMJ 2024;385:e078378. Names "
    "in quotes are sections of this card. Filled here does not mean well done: a reader judges that."
)


def tripod(card: CardInputs) -> Iterator[Block]:
    """Every item: what the run says, what is blank and by whom it is filled."""
    body = []
    for item, answer in answered(card).items():
        said, blank = answer_cells(answer)
        body.append([named(item), Cell(ITEMS[item], ""), said, blank])
    yield Paragraph(HOW, "note")
    yield table_of("The items of TRIPOD+AI.", ("Item", "Asks for", "This run says", "Blank"), body)


def answered(card: CardInputs) -> dict[str, Answer]:
    """Item → what the run says, a blank, or both."""
    said = answers(card)
    return {item: _answer(said.get(item, ""), BLANKS.get(item), item) for item in ITEMS}


def _answer(said: str, blank: Blank | None, item: str) -> Answer:
    if not said:
        return blank or UNASKED[item]
    return (said, blank) if blank else said
