#!/usr/bin/env bash
# Shortcuts and leave-one-source-out of a collection of real X-rays: run.sh <manifest.csv>
set -euo pipefail
cd "$(dirname "$0")/../.."
.venv/bin/xraysynth study study.name=confounding source=table source.table.path="$1" \
  "classes=[normal,pneumonia,covid19]" missing_patient_id=cluster acknowledge_confounding=true \
  "generator=[]" "study.synthetic_fractions=[0]" study.leave_one_source_out=true trainer.max_steps=400 study.workers=2
