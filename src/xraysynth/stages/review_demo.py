"""A small blinded reading to try: what radiologists would see, and what their answers become.

Shows simulated radiographs beside images of the quickstart's generators: its pools where
`xraysynth study experiment=quickstart` has made them, else a few images of the embedded Stable
Diffusion, made now. Prints the file to open in a browser, and the command that analyses the answers.
"""

import sys
from dataclasses import asdict, replace

from xraysynth.config import Config
from xraysynth.evaluation.reader_study.recipe import ReviewRecipe
from xraysynth.generation.generators.base import PaidGenerator
from xraysynth.jobs.job import ResultLine
from xraysynth.seeds import short_digest
from xraysynth.stages import finetune, generate, review_build
from xraysynth.stages._workspace import Workspace

SECTIONS = ("review", "source", "generator")
"""The options that this stage reads, besides those of review build."""

DEMO_DEFAULTS = ReviewRecipe(readers=["demo"], per_cell=3, calibration=2)
"""What differs from the defaults, unless the user chose."""


def run(workspace: Workspace) -> ResultLine:
    """Build the demonstration's kit, or find it built."""
    workspace = workspace.with_config(_demo_config(workspace))
    config = workspace.config
    generate.run(workspace)
    result = review_build.run(workspace)
    print(f"open {result['send'][0]} in a browser, answer, and export; then", file=sys.stderr)
    command = f"xraysynth review analyse review.name={config.review.name} review.exports=FILE"
    print(f"  {command}", file=sys.stderr, flush=True)
    return result | {"stage": "review_demo", "open": result["send"][0]}


def _demo_config(workspace: Workspace) -> Config:
    """Few images, of the generators that have them or make them in seconds."""
    config, learners = workspace.config, workspace.generators_to_finetune
    able = {
        key: node
        for (key, node), (name, generator) in zip(
            config.generator.items(), config.generators().items(), strict=True
        )
        if not isinstance(generator, PaidGenerator)
        and (name not in learners or finetune.build_job(workspace, name).done)
    }
    for key in config.generator.keys() - able.keys():
        print(f"without {key}: its images take longer than a demonstration", file=sys.stderr)
    standard = ReviewRecipe()
    smaller = {
        option: getattr(DEMO_DEFAULTS, option)
        for option in ("readers", "per_cell", "calibration")
        if getattr(config.review, option) == getattr(standard, option)
    }
    recipe = replace(config.review, **smaller)
    count = recipe.per_cell + recipe.calibration
    # A name of its own for every choice: a demonstration is no study that others wait for.
    if recipe.name == standard.name:
        decides = [sorted(able), workspace.cohort.digest(), asdict(replace(recipe, exports=None))]
        recipe = replace(recipe, name=f"demo-{short_digest(decides)[:6]}")
    few = replace(config.generate, per_class=count)
    return replace(config, generator=able, generate=few, review=recipe)
