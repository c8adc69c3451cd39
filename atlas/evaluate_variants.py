"""The variants of the decoder side by side, each trained small for the same number of steps (`train_variants`).

Same questions, same knowledge base, same retriever: only the decoder differs.
"""

import asyncio
from pathlib import Path

from atlas.asking import ask, matches, whole_atlas, with_invented
from atlas.train_decoder import VARIANTS
from atlas.trials import Trial, country_trials
from mmrag.components import AnswerDecoder
from mmrag.errors import ConfigurationError
from mmrag.evaluation import Row

NUM_INVENTED = 20


def evaluate_variants(folder: Path, quick: bool = False) -> dict[str, list[Row]]:
    """Exact match of every variant found in `folder`, by kind of question; `quick` takes every eighth question.

    Raises:
        ConfigurationError: there is none.
    """
    found = [name for name in VARIANTS if (folder / name / "model.safetensors").is_file()]
    if not found:
        hint = f"`python -m atlas.train_variants --out {folder}` trains them"
        raise ConfigurationError(f"{folder} holds none of the variants {', '.join(VARIANTS)}; {hint}")
    return asyncio.run(_evaluate(folder, found, 8 if quick else 1))


async def _evaluate(folder: Path, names: list[str], one_in: int) -> dict[str, list[Row]]:
    rows = {}
    async with whole_atlas() as (local, config), with_invented(local, max(4, NUM_INVENTED // one_in)) as countries:
        invented = [trial for country in countries for trial in (*country.named, *country.shown)]
        groups = {
            "named": country_trials("named", one_in),
            "shown": country_trials("shown", one_in),
            "invented": invented,
        }
        for name in names:
            decoder = AnswerDecoder(config.decoder.model_copy(update={"model": str(folder / name)}))
            rows[name] = await _rows(local.pipeline_with(decoder=decoder), name, groups)
    return rows


async def _rows(pipeline, name: str, groups: dict[str, list[Trial]]) -> list[Row]:
    rows = []
    for group, trials in groups.items():
        answers = await ask(pipeline, trials, f"{name}, {group}")
        rows.append(Row(group, matches(trials, answers), len(trials)))
    return rows
