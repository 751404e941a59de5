"""Commands that fail, and the remedies that their messages print."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A command that fails with a remedy.

    In a command, "-name" takes away the options that begin with this name, {cohort} is the folder of the
    images, {model} a Stable Diffusion, {classifier} the file of a trained classifier, and LORA stands for
    the options of a small LoRA.

    Attributes:
        file: The module of the message.
        says: A part of the message, as it is in the code.
        command: The stage, and what is changed in the options of the study for it to fail.
        remedies: What the message prints, each of which is enough: options, or the beginning of a command
            that ends the message, or the stage of "… with the same options". After "|" follows what a user
            has to change besides, because it belongs to what the remedy replaces.
    """

    file: str
    says: str
    command: str
    remedies: tuple[str, ...]
    then: str = ""
    """What is refused next, for what no test has: real answers of readers, a token."""


FINETUNE = "finetune generator=sd_lora -generator.stable_diffusion LORA"
LORA = "generator.sd_lora.lora"
FOLDERS = "evaluate real={cohort}/normal synthetic={cohort}/covid19"

CASES = [
    Case(
        "training/recipe.py",
        "is a control of synthetic images",
        "train data.synthetic_fraction=0 data.control=permuted",
        ("data.synthetic_fraction=0.5", "data.control=none"),
    ),
    Case(
        "training/recipe.py",
        "trains on nothing but the real images",
        "train data.synthetic_fraction=0.5 data.control=duplicate data.mode=pretrain",
        ("data.mode=add", "data.mode=replace"),
    ),
    Case(
        "training/recipe.py",
        "data.control=duplicate repeats real images",
        "train data.synthetic_fraction=1 data.control=duplicate",
        ("data.synthetic_fraction=0.5",),
    ),
    Case(
        "training/recipe.py",
        "takes out as many images as leaving a data set out",
        "train data.synthetic_fraction=0 data.control=size_matched",
        ("data.control=none",),
    ),
    Case(
        "training/recipe.py",
        "is an arm of real images only",
        "train data.synthetic_fraction=0.5 data.control=size_matched",
        ("data.control=none",),
    ),
    Case(
        "training/mixing.py",
        "needs a pool; name a generator",
        "train data.synthetic_fraction=0.5 -generator generator=[]",
        (
            "data.synthetic_fraction=0",
            "generator=stable_diffusion | generator.stable_diffusion.model={model} "
            "generator.stable_diffusion.steps=1 generator.stable_diffusion.batch_size=4",
        ),
    ),
    Case(
        "training/mixing.py",
        "leaves no real image with data.mode",
        "train data.synthetic_fraction=1 data.mode=add",
        ("data.mode=replace", "data.synthetic_fraction=0.5"),
    ),
    Case(
        "training/mixing.py",
        "is no data set of this cohort",
        "train data.synthetic_fraction=0 data.leave_out=nih",
        ("data.leave_out=",),
    ),
    Case(
        "stages/_workspace.py",
        "self.command('generate')",
        "train data.synthetic_fraction=0.5 generate.seed=5",
        ("xraysynth generate",),
    ),
    Case(
        "training/pretrained.py",
        "are not in the Hugging Face ",
        "train data.synthetic_fraction=0 classifier.backbone=resnet10t classifier.pretrained=true",
        ("classifier.pretrained=false",),
    ),
    Case(
        "generation/generators/_engines.py",
        "but torch sees no GPU",
        "generate generator.stable_diffusion.device=cuda generate.per_class=2 generate.seed=6",
        ("generator.stable_diffusion.device=auto", "generator.stable_diffusion.device=cpu"),
    ),
    Case(
        "generation/generators/_engines.py",
        "moves weights between CPU and GPU",
        "generate generator.stable_diffusion.memory=offload generate.per_class=2 generate.seed=7",
        ("generator.stable_diffusion.memory=none", "generator.stable_diffusion.memory=slicing"),
    ),
    Case(
        "stages/finetune.py",
        "generator names none that is fine-tuned",
        "finetune",
        ("generator=sd_lora | -generator.stable_diffusion LORA",),
    ),
    Case(
        "generation/lora/acceleration.py",
        "lora.precision=fp16 needs a GPU",
        f"{FINETUNE} {LORA}.precision=fp16",
        (f"{LORA}.precision=auto",),
    ),
    Case(
        "generation/lora/denoising.py",
        "needs a model that predicts velocity",
        f"{FINETUNE} {LORA}.zero_terminal_snr=true",
        (f"{LORA}.zero_terminal_snr=false",),
    ),
    Case(
        "generation/lora/learner.py",
        "needs the package bitsandbytes",
        f"{FINETUNE} {LORA}.optimizer=adamw8bit",
        (f"{LORA}.optimizer=adamw",),
    ),
    Case(
        "generation/lora/training_loop.py",
        "LoRA training diverged at step",
        f"{FINETUNE} {LORA}.learning_rate=1e30",
        (f"{LORA}.learning_rate | {LORA}.learning_rate=1e-4",),
    ),
    Case(
        "stages/finetune.py",
        "the cohort has no such column",
        f"{FINETUNE} {LORA}.captions=report",
        (f"{LORA}.captions=prompts",),
    ),
    Case(
        "stages/finetune.py",
        "workspace.command('finetune')",
        f"generate{FINETUNE[8:]} {LORA}.steps=3 generate.per_class=2",
        ("xraysynth finetune",),
    ),
    Case(
        "stages/generate.py",
        "generator must name at least one",
        "generate -generator generator=[] generate.per_class=2",
        (
            "generator=stable_diffusion | generator.stable_diffusion.model={model} "
            "generator.stable_diffusion.steps=1 generator.stable_diffusion.batch_size=4",
        ),
    ),
    Case(
        "stages/generate.py",
        "estimates paid services",
        "generate generate.dry_run=true",
        ("generator=dalle | -generator.stable_diffusion",),
    ),
    Case(
        "stages/features.py",
        "must each name at least one",
        "features evaluate.encoders=[]",
        ("generator=stable_diffusion evaluate.encoders=[embedded]",),
    ),
    Case(
        "stages/_folder_comparison.py",
        "needs a classifier for two folders",
        f"{FOLDERS} evaluate.encoders=[classifier]",
        ("evaluate.encoders=[embedded]",),
    ),
    Case(
        "stages/_measuring.py",
        "does not name; set",
        f"{FOLDERS} evaluate.encoders=[embedded] evaluate.weights.classifier={{classifier}}",
        ("'evaluate.encoders=[embedded, classifier]'",),
    ),
    Case(
        "stages/evaluate.py",
        "workspace.command('train', 'data.synthetic_fraction=0')",
        "evaluate seed=11",
        ("xraysynth train",),
    ),
    Case(
        "evaluation/reader_study/sample.py",
        "different images of each class are needed",
        "review build review.name=many review.per_cell=50",
        ("review.per_cell=5",),
    ),
    Case(
        "stages/review_analyse.py",
        "there is no such key",
        "review analyse review.name=nobody review.per_cell=2",
        ("xraysynth review build",),
        then="review.exports names",
    ),
    Case(
        "stages/review_build.py",
        "generator must name at least one",
        "review build -generator generator=[] review.name=none review.per_cell=2",
        ("generator=sd_lora | LORA",),
    ),
    Case(
        "launch.py",
        "plan=true is for xraysynth study",
        "train data.synthetic_fraction=0 plan=true",
        ("remove it | -plan",),
    ),
    Case(
        "launch.py",
        "which cannot be divided into shards",
        "train data.synthetic_fraction=0 shard.count=2",
        ("remove it | -shard",),
    ),
    Case(
        "selections.py",
        "quote_override(f'{group}.{key}.{name}', option)",
        "prepare -source source={cohort}/manifest.csv",
        ("source=table source.table.path={cohort}/manifest.csv",),
    ),
    Case(
        "data/cohort.py",
        "source must name at least one source",
        "prepare -source source=[]",
        ("source=simulated | source.simulated.patients_per_class=20",),
    ),
    Case(
        "data/cohort.py",
        "images have no patient id",
        "prepare -source source=folder source.folder.root={cohort}",
        ("missing_patient_id=cluster",),
    ),
    Case(
        "data/splits.py",
        "leave the class out with",
        "prepare source.table.labels.covid19=null",
        ("'classes=[normal, pneumonia, tuberculosis]'",),
    ),
    Case(
        "data/audit.py",
        "leave the class out with",
        "prepare source=[table,folder] source.table.labels.tuberculosis=null missing_patient_id=cluster "
        "source.folder.root={cohort} "
        "'source.folder.pattern=(?P<label>normal(?=/00[0-5])|tuberculosis)/.+'",
        ("'classes=[covid19, normal, pneumonia]'", "acknowledge_confounding=true"),
    ),
    Case(
        "data/source_labels.py",
        "by_lower_case",
        "prepare 'source.table.labels={normal: nromal}'",
        ("'source.table.labels={normal: normal}'",),
    ),
    Case(
        "data/label_files.py",
        "'No Finding': 'normal'",
        "prepare source.table.labels=nothing.yaml",
        ("'source.table.labels={No Finding: normal, other: null}'",),
    ),
    Case(
        "data/sources/folder.py",
        "or use source=table",
        "prepare -source source=folder source.folder.root={cohort}/normal",
        ("source=table | -source.folder source.table.path={cohort}/manifest.csv",),
    ),
    Case(
        "generation/prompts.py",
        "prompts.findings.{label}",
        "generate classes=[x,pneumonia] source.table.labels.normal=x generate.per_class=2",
        ("'prompts.findings.x=[first phrase, second phrase]'",),
    ),
    Case(
        "stages/review_analyse.py",
        "and none is given",
        "review analyse review.name=nobody",
        ("review.exports=answers/",),
        then="answers",
    ),
    Case(
        "release/recipe.py",
        "needs release.repo",
        "release release.push=true",
        ("release.repo=owner/name",),
        then="HF_TOKEN",
    ),
    Case(
        "stages/_study/finished.py",
        "no training of that arm is done",
        "report study.seeds=[7]",
        ("xraysynth study",),
    ),
    Case(
        "config.py",
        "to begin",
        "study plan=true study.until=0.05 study.seeds=[0]",
        ("study.seeds=[0,1]",),
    ),
    Case(
        "config.py",
        "study.most_seeds must be at least the number of study.seeds",
        "study plan=true study.until=0.05 study.seeds=[0,1,2] study.most_seeds=2",
        ("study.most_seeds=20",),
    ),
    Case(
        "release/inputs.py",
        "selects nothing: only generators",
        "release release.parts=[model]",
        ("release.parts=[model,data,study]",),
    ),
    Case(
        "tracking/wandb_server.py",
        "WANDB_API_KEY",
        "dashboard tracking=wandb",
        ("tracking=offline",),
    ),
    Case(
        "hydra_values.py",
        "must be a list in brackets",
        "prepare classes=normal,pneumonia",
        ("'classes=[normal, pneumonia]'",),
    ),
]
