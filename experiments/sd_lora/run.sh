#!/usr/bin/env bash
# Pools of fine-tuned models by several recipes on the quickstart's cohort, shown to the judge.
set -euo pipefail
cd "$(dirname "$0")/../.."
make quickstart
shared="experiment=quickstart tracking=none"
g=generator.sd_lora
lora=$g.lora
attention=to_q,to_k,to_v,to_out.0
all=$attention,conv1,conv2,ff.net.0.proj,ff.net.2
make_pool() {
  .venv/bin/xraysynth finetune $shared generator=sd_lora generate.per_class=92 "$@"
  .venv/bin/xraysynth generate $shared generator=sd_lora generate.per_class=92 "$@"
}
for seed in 0 1 2; do make_pool $lora.seed=$seed; done
make_pool $g.scale=1
make_pool $g.scale=1.7
make_pool $lora.steps=45 $lora.val_every_steps=45 $lora.learning_rate=0.004
make_pool $lora.steps=100 $lora.val_every_steps=100
make_pool $lora.steps=150 $lora.val_every_steps=150
make_pool "$lora.targets=[$all]"

# The default of before, and its neighbours
earlier() { make_pool $g.steps=20 $g.scale=1 $g.batch_size=8 "$@"; }
on_all() { earlier "$lora.targets=[$all]" $lora.val_every_steps=125 "$@"; }
on_all $g.guidance=3 $lora.steps=250
on_all $g.guidance=2 $lora.steps=250
on_all $g.guidance=1 $lora.steps=250
on_all $g.guidance=2 $lora.steps=150
on_all $g.guidance=2 $lora.steps=400
on_all $g.guidance=2 $lora.steps=250 $lora.learning_rate=0.0015
on_all $g.guidance=3 $lora.steps=200 $lora.learning_rate=0.002
earlier $g.guidance=3 "$lora.targets=[$attention]" $lora.steps=250 $lora.val_every_steps=125
earlier $g.guidance=3 "$lora.targets=[$all]" $lora.per_class=false $lora.steps=1000 $lora.val_every_steps=500
.venv/bin/xraysynth generate $shared generator=stable_diffusion generate.per_class=46 \
  generator.stable_diffusion.steps=20 generator.stable_diffusion.guidance=2 generator.stable_diffusion.batch_size=8
.venv/bin/python experiments/sd_lora/judge.py --csv experiments/sd_lora/results.csv
