#!/usr/bin/env bash
# Studies with a LoRA of the whole train split and with LoRAs of a third, in one table and figures.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
.venv/bin/xraysynth study experiment=low_data
third="experiment=low_data splits.val_fraction=0.351 study.real_fractions=[1] study.controls=[]"
.venv/bin/xraysynth study $third study.name=low_data_own
.venv/bin/xraysynth study $third study.name=low_data_own_80_steps generator.sd_lora.lora.steps=80
.venv/bin/python experiments/low_data/collect.py outputs/studies
