"""The empty chat: what to do there, three questions to begin with, and for whom the student was made, in words of the
reader's language."""

from functools import cache

from kdloop.settings import Settings
from kdloop.student import base
from kdloop.ui.words import language, tell

EXAMPLES = ("What should I cook with two eggs and rice?", "Explain tides to a child.", "Help me plan a quiet Sunday.")
WHAT_TO_DO = "### Ask the student something\nRate its answer with the thumbs, or edit it into a better one."
ENGLISH_ONLY = "By its model card the student is made for English. Other languages were not measured here."


def properties(settings: Settings) -> dict:
    """Of the `gr.Chatbot`, where the reader's language is not the one that the page was built in."""
    if language() == "en":
        return {}
    lines = [tell(WHAT_TO_DO), *([tell(ENGLISH_ONLY)] if is_for_english(settings) else [])]
    return {"examples": [{"text": tell(question)} for question in EXAMPLES], "placeholder": "\n\n".join(lines)}


@cache
def is_for_english(settings: Settings) -> bool:
    """Does the student's own card name English and nothing else?"""
    return base.languages(settings.student, settings.home) == ["en"]
