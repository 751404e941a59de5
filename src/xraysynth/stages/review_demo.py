"""Try a small blinded reader study: see what readers see, and what their answers become.

Shows simulated radiographs and images of the quickstart's generators: from its pools if
`xraysynth study experiment=quickstart` has filled them, otherwise a few images of the embedded Stable
Diffusion, which are generated now. Prints the file to open in a browser, and the command that analyses
the answers.
"""

import sys
from dataclasses import asdict, replace
from typing import Any

from xraysynth.config import Config, with_deprecated_names
from xraysynth.evaluation.reader_study.recipe import ReviewRecipe
from xraysynth.generation.generators.base import PaidGenerator
from xraysynth.jobs.job import ResultLine
from xraysynth.seeds import short_digest
from xraysynth.stages import finetune, generate, review_build
from xraysynth.stages._workspace import Workspace

SECTIONS = ("review", "source", "generator")
"""The options that this stage reads, besides those of review build."""

DEMO_DEFAULTS = ReviewRecipe(readers=["demo"], per_cell=3, calibration=2)
"""The recipe of a demonstration, for the options that the user did not set."""

DEMO_OPTIONS = ("readers", "per_cell", "calibration")
"""The options of which a demonstration has other defaults."""


def run(workspace: Workspace) -> ResultLine:
    """Build the kit of the demonstration, unless it is built, and print how to continue.

    Returns:
        The result of review build, with the file to open in a browser ("open").
    """
    workspace = workspace.with_config(_demo_config(workspace))
    config = workspace.config
    generate.run(workspace)
    result = review_build.run(workspace)
    kit = result["send"][0]
    command = workspace.command(
        "review analyse", f"review.name={config.review.name}", "review.exports=FILE"
    )
    print(f"open {kit} in a browser, answer, and export; then run", file=sys.stderr)
    print(f"  {command}", file=sys.stderr, flush=True)
    return result | {"stage": "review_demo", "open": kit}


def _demo_config(workspace: Workspace) -> Config:
    """Return the configuration with few images, and with the generators that are quick."""
    config = workspace.config
    generators = _quick_generators(workspace)
    recipe = _demo_recipe(config.review)
    # Each choice gets its own name, because a demonstration must not keep another from being built.
    if recipe.name == ReviewRecipe().name:
        options = with_deprecated_names("review", asdict(replace(recipe, exports=None)))
        choice = [sorted(generators), workspace.cohort.digest(), options]
        recipe = replace(recipe, name=f"demo-{short_digest(choice)[:6]}")
    images_per_class = recipe.per_cell + recipe.calibration
    return replace(
        config,
        generator=generators,
        generate=replace(config.generate, per_class=images_per_class),
        review=recipe,
    )


def _quick_generators(workspace: Workspace) -> dict[str, Any]:
    """Return the nodes of the generators that cost nothing and need no fine-tuning first."""
    config = workspace.config
    nodes_and_generators = zip(config.generator.items(), config.generators().items(), strict=True)
    quick_generators = {}
    for (key, node), (name, generator) in nodes_and_generators:
        must_be_finetuned = (
            name in workspace.generators_to_finetune
            and not finetune.build_job(workspace, name).done
        )
        if isinstance(generator, PaidGenerator) or must_be_finetuned:
            print(
                f"the demonstration is without {key}, whose images take longer or cost money",
                file=sys.stderr,
            )
        else:
            quick_generators[key] = node
    return quick_generators


def _demo_recipe(recipe: ReviewRecipe) -> ReviewRecipe:
    """Return the recipe with the demonstration's value for each option that has its default."""
    standard = ReviewRecipe()
    demo_values = {}
    for option in DEMO_OPTIONS:
        if getattr(recipe, option) == getattr(standard, option):
            demo_values[option] = getattr(DEMO_DEFAULTS, option)
    return replace(recipe, **demo_values)
