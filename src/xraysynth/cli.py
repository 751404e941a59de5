"""The command line: `xraysynth <stage> [overrides]`."""

import sys

STAGES = {
    "prepare": "real images to one audited, split cohort",
    "probe": "shortcuts: what gives away the source, or the class without the lungs",
    "finetune": "generators that learn, on the real train split",
    "generate": "prompts to pools of synthetic images",
    "train": "a classifier on real images, synthetic ones, or both",
    "evaluate": "pools against real images: fidelity and diversity",
    "study": "the whole comparison, from images to a report",
    "report": "the report of a study from the jobs that are done",
    "dashboard": "a W&B workspace and report of a study, made by code",
    "selftest": "whether the measures measure, on images whose answers are known",
    "release": "weights, pools and study with their cards, ready for the Hugging Face Hub",
}

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
  xraysynth train -m data.share=0,0.25,0.5,1 seed=0,1,2

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
    stage, *overrides = ["release.push=true" if word == "--push" else word for word in arguments]
    if stage not in STAGES:
        sys.exit(_unknown_stage(stage))
    if "--help" in overrides or "-h" in overrides:
        from xraysynth.usage import stage_help

        print(stage_help(stage), end="")
        return
    from xraysynth.launch import launch

    sys.exit(launch(stage, overrides))


def _unknown_stage(stage: str) -> str:
    import difflib

    close = difflib.get_close_matches(stage, STAGES, n=1)
    nearest = f"; did you mean {close[0]!r}?" if close else ""
    return f"xraysynth: there is no stage {stage!r}{nearest} (there is {', '.join(STAGES)})"
