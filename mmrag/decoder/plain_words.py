"""A request in plain words, for a T5 that knows neither our markers nor pictures.

Such a model sees a picture through what the retriever found for it: the title of the passage whose picture is most
like it, which is named beside the question, and whose text is among the passages.
"""

from mmrag.types import DecodeRequest, Passage

PICTURE_MEASURES = ("image_image", "image_text")
"""How much a passage's picture, else its text, resembles the picture that was sent."""


def question(request: DecodeRequest) -> str:
    """What is asked, with the name of what the picture shows where the retriever found it."""
    shown = shown_by_picture(request)
    asked = request.text or unasked(request)
    return f"{asked} picture: {shown.title}" if shown is not None and shown.title else asked


def unasked(request: DecodeRequest) -> str:
    """The question that a picture without words stands for."""
    if request.task == "classify" and request.labels:
        return f"Which of these is it: {', '.join(request.labels)}?"
    if request.image_embedding is None:
        return ""
    return "Describe the picture." if request.task == "caption" else "What does the picture show?"


def shown_by_picture(request: DecodeRequest) -> Passage | None:
    """The passage that the picture found, None where there is no picture or it found nothing."""
    if request.image_embedding is None:
        return None
    for measure in PICTURE_MEASURES:
        found = [passage for passage in request.passages if measure in passage.similarities]
        if found:
            return max(found, key=lambda passage: passage.similarities[measure])
    return None
