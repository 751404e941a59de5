#!/usr/bin/env bash
# Three archives whose worth is known, and a study of each.
set -euo pipefail
cd "$(dirname "$0")/../.."
.venv/bin/python experiments/null_study/archives.py outputs/null_study
for name in others noise copies; do
  .venv/bin/xraysynth study experiment=null_study study.name=null_$name \
    generator.archive.folder=outputs/null_study/$name generator.archive.name=$name
done
.venv/bin/python experiments/null_study/collect.py outputs/studies
