"""The command line: `xraysynth <stage> [overrides]`."""

import sys
from collections.abc import Sequence

STAGES = {
    "prepare": "real images to one audited, split cohort",
    "probe": "shortcuts: what gives away the source, or the class without the lungs",
    "finetune": "generators that learn, on the real train split",
    "generate": "prompts to pools of synthetic images",
    "train": "a classifier on real images, synthetic ones, or both",
    "features": "what evaluate measures by, in parts over many machines",
    "evaluate": "pools against real images: fidelity and diversity",
    "study": "the whole comparison, from images to a report",
    "report": "the report of a study from the jobs that are done",
    "dashboard": "a W&B workspace and report of a study, made by code",
    "selftest": "whether the measures measure, on images whose answers are known",
    "release": "weights, pools and study with their cards, ready for the Hugging Face Hub",
    "review": "a blinded reading: kits for radiologists, and what their answers say",
}

ACTIONS = {
    "review": {
        "build": "one HTML file per reader and session, and the answer key",
        "analyse": "answers and key to accuracy, agreement and opinions",
        "demo": "a small kit of simulated and generated images to try",
    },
}
"""Stages of several parts: `xraysynth review build` is the module `review_build`."""

HELP = f"""\
xraysynth: can synthetic chest X-rays train a classifier, and which generator should make them?

usage: xraysynth <stage> [option=value ...]      run a stage
       xraysynth <stage> -m option=a,b,c ...     run it for every combination of values
       xraysynth <stage> --help                  what the stage does and the options it reads

stages:
{chr(10).join(f"  {name:9} {text}" for name, text in STAGES.items())}

examples:
  xraysynth study experiment=quickstart
  xraysynth study source=folder source.folder.root=my_xrays classes=[normal,pneumonia]
  xraysynth generate generator.stable_diffusion.steps=30 generate.per_class=100
  xraysynth train -m data.synthetic_fraction=0,0.25,0.5,1 seed=0,1,2

Progress goes to stderr; the last line on stdout is the result as JSON. Results are kept in
paths.output (outputs/) and are not computed twice.
"""


def main() -> None:
    """Entry point of the console script."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return
    if arguments[0] == "--version":
        from xraysynth import __version__

        print(__version__)
        return
    words = ["release.push=true" if word == "--push" else word for word in arguments]
    stage, overrides = parse_command(words)
    if "--help" in overrides or "-h" in overrides:
        from xraysynth.usage import stage_help

        print(stage_help(stage), end="")
        return
    from xraysynth.launch import launch

    sys.exit(launch(stage.replace(" ", "_"), overrides))


def parse_command(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The stage, with its action where it has several, and the overrides; exits on a wrong word."""
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
    if action == "demo" and not any(word.startswith("experiment=") for word in overrides):
        overrides = ["experiment=quickstart", *overrides]
    return f"{stage} {action}", overrides


def _format_unknown_word(command: str, kind: str, word: str, choices: Sequence[str]) -> str:
    from xraysynth.errors import did_you_mean

    there_is = ", ".join(choices)
    return (
        f"{command}: there is no {kind} {word!r}{did_you_mean(word, choices)} (there is {there_is})"
    )
