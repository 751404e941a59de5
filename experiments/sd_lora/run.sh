#!/usr/bin/env bash
# Pools of fine-tuned models by several recipes on the quickstart's cohort, shown to the judge.
set -euo pipefail
cd "$(dirname "$0")/../.."
make quickstart
shared="experiment=quickstart generator=sd_lora tracking=none generate.per_class=92"
lora=generator.sd_lora.lora guidance=generator.sd_lora.guidance
make_pool() { .venv/bin/xraysynth finetune $shared "$@" && .venv/bin/xraysynth generate $shared "$@"; }
make_pool
make_pool $guidance=2
make_pool $guidance=1
make_pool $guidance=2 $lora.steps=150
make_pool $guidance=2 $lora.steps=400
make_pool $guidance=2 $lora.learning_rate=0.0015
make_pool $lora.steps=200 $lora.learning_rate=0.002
make_pool "$lora.targets=[to_q,to_k,to_v,to_out.0]"
make_pool $lora.per_class=false $lora.steps=1000 $lora.val_every_steps=500
.venv/bin/python experiments/sd_lora/judge.py --csv experiments/sd_lora/results.csv
