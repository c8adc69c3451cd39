"""Whether the shares shown with an answer are true: what happens to it without the passage that they name."""

from dataclasses import replace

from atlas.asking import ask
from atlas.trials import Trial
from mmrag.evaluation import Row, normalise_answer
from mmrag.pipeline import Pipeline
from mmrag.types import Answer


async def faithfulness(pipeline: Pipeline, trials: list[Trial]) -> list[Row]:
    """How often the answer changes when the passage with the largest, or the smallest, share is left out."""
    explained = [replace(trial, query=replace(trial.query, explain="loo")) for trial in trials]
    answers = [answer for answer in await ask(pipeline, explained, "faithfulness") if len(answer.passages) > 1]
    largest = sum(changes_without(answer, max) for answer in answers) / max(1, len(answers))
    smallest = sum(changes_without(answer, min) for answer in answers) / max(1, len(answers))
    return [
        Row("another answer without the passage of the largest share", largest, len(answers), at_least=0.9),
        Row("another answer without the passage of the smallest share", smallest, len(answers), at_most=0.05),
    ]


def changes_without(answer: Answer, extreme) -> bool:
    """Whether leaving out the passage whose share is extreme, `max` or `min`, changes the answer."""
    shares = answer.attribution.passages
    passage = extreme(shares, key=shares.get)
    return normalise_answer(answer.attribution.without[passage]) != normalise_answer(answer.answer)
