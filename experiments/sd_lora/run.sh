#!/usr/bin/env bash
# Pools of fine-tuned models by several recipes on the quickstart's cohort, shown to the judge.
set -euo pipefail
cd "$(dirname "$0")/../.."
make quickstart
shared="experiment=quickstart generator=sd_lora tracking=none generate.per_class=92"
recipe=generator.sd_lora.lora
make_pool() { .venv/bin/xraysynth finetune $shared "$@" && .venv/bin/xraysynth generate $shared "$@"; }
make_pool
make_pool generator.sd_lora.guidance=1
make_pool $recipe.steps=150
make_pool $recipe.steps=400
make_pool $recipe.learning_rate=0.0015
make_pool $recipe.rank=4 $recipe.alpha=4
make_pool "$recipe.targets=[to_q,to_k,to_v,to_out.0]"
make_pool $recipe.per_class=false $recipe.steps=1000 $recipe.val_every_steps=500
.venv/bin/python experiments/sd_lora/judge.py --csv experiments/sd_lora/results.csv
