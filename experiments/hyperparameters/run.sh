#!/usr/bin/env bash
# The study, its tables beside this file, the main effects, and its figure.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
here=experiments/hyperparameters
.venv/bin/xraysynth study experiment=hyperparameters
cp outputs/studies/hyperparameters/{results,measures}.csv $here/
.venv/bin/python $here/main_effects.py $here
.venv/bin/python experiments/figure.py differences $here
