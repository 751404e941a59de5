"""The command line: `xraysynth <stage> [overrides]`."""

import sys
from collections.abc import Sequence

STAGES = {
    "inspect": "say what is in a folder, table or archive, and which command runs a study on it",
    "prepare": "read sources into one audited cohort, split by patient",
    "probe": "look for shortcuts: what predicts the source, or the class without the lungs",
    "finetune": "fine-tune generators on the real train split",
    "generate": "make pools of synthetic images from prompts",
    "train": "train a classifier on real images, synthetic ones, or both",
    "features": "compute the features that evaluate measures on, in shards over many machines",
    "evaluate": "compare pools with real images: fidelity and diversity",
    "study": "run the whole comparison, from images to a report",
    "report": "write the report of a study from the jobs that are done",
    "dashboard": "write a W&B workspace and report of a study",
    "selftest": "check the measures on images whose values are known",
    "release": "write weights, pools and study with their cards, ready for the Hugging Face Hub",
    "review": "run a reader study: blinded kits for radiologists, and the analysis of their answers",
}

ACTIONS = {
    "review": {
        "build": "build one HTML file per reader and session, and the answer key",
        "analyse": "compute accuracy, agreement and opinions from answers and key",
        "demo": "build a small kit of simulated and generated images to try",
    },
}
"""Actions of stages that have several: `xraysynth review build` runs the module `review_build`."""

ARGUMENTS = {"inspect": "PATH [PATH ...] [--all]"}
"""What stages take besides options; these stages work without Hydra."""

HELP = f"""\
xraysynth: can synthetic chest X-rays train a classifier, and which generator should make them?

usage: xraysynth <stage> [option=value ...]      run a stage
       xraysynth <stage> -m option=a,b,c ...     run it for every combination of values
       xraysynth <stage> --help                  what the stage does and the options it reads

stages:
{chr(10).join(f"  {name:9} {text}" for name, text in STAGES.items())}

examples:
  xraysynth inspect my_xrays
  xraysynth study experiment=quickstart
  xraysynth study experiment=./mine.yaml
  xraysynth study source=folder source.folder.root=my_xrays classes=[normal,pneumonia]
  xraysynth generate generator.stable_diffusion.steps=30 generate.per_class=100
  xraysynth train -m data.synthetic_fraction=0,0.25,0.5,1 seed=0,1,2

Progress goes to stderr; the last line on stdout is the result as JSON. Results are stored in
paths.output (outputs/) and are not computed twice.
"""


def main() -> None:
    """Run the command line `xraysynth`; exits with its exit code."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return
    if arguments[0] == "--version":
        from xraysynth import __version__

        print(__version__)
        return
    long_names = {"--push": "release.push=true"}
    stage, overrides = parse_command([long_names.get(word, word) for word in arguments])
    if "--help" in overrides or "-h" in overrides:
        from xraysynth.usage import stage_help

        print(stage_help(stage), end="")
        return
    from xraysynth.environment import prepare_process

    prepare_process()
    from xraysynth.launch import inspect_paths, launch

    if stage in ARGUMENTS:
        sys.exit(inspect_paths(overrides))
    sys.exit(launch(stage.replace(" ", "_"), overrides))


def parse_command(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Split the arguments into the stage, with its action if it has several, and the overrides.

    Exits with a message if there is no such stage or action.
    """
    stage, *overrides = arguments
    if stage not in STAGES:
        sys.exit(_format_unknown_word("xraysynth", "stage", stage, list(STAGES)))
    if stage not in ACTIONS:
        return stage, overrides
    if not overrides or overrides[0] in ("-h", "--help"):
        return stage, ["--help"]
    action, *overrides = overrides
    if action not in ACTIONS[stage]:
        sys.exit(_format_unknown_word(f"xraysynth {stage}", "action", action, list(ACTIONS[stage])))
    option_names = [word.partition("=")[0] for word in overrides]
    if action == "demo" and "experiment" not in option_names:
        overrides = ["experiment=quickstart", *overrides]
    return f"{stage} {action}", overrides


def _format_unknown_word(command: str, kind: str, word: str, choices: Sequence[str]) -> str:
    from xraysynth.errors import did_you_mean

    hint = did_you_mean(word, choices)
    return f"{command}: there is no {kind} {word!r}{hint}; choose one of {', '.join(choices)}"
