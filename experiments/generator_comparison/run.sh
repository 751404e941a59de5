#!/usr/bin/env bash
# Images of other patients, the study, and its figure.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
here=experiments/generator_comparison
.venv/bin/python $here/others.py outputs/generator_comparison/others
.venv/bin/xraysynth study experiment=generator_comparison
cp outputs/studies/generator_comparison/{results,measures,tradeoffs}.csv $here/
.venv/bin/python experiments/figure.py differences $here
