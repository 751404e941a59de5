#!/usr/bin/env bash
# The study, its tables beside this file, and its figures.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
.venv/bin/xraysynth study experiment=ratio_ablation
cp outputs/studies/ratio_ablation/{results,measures}.csv experiments/ratio_ablation/
.venv/bin/python experiments/figure.py share experiments/ratio_ablation
