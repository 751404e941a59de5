#!/bin/sh
# Three archives, and a study of each; six to ten minutes on two cores.
set -eu
cd "$(dirname "$0")/../.."
python experiments/null_study/archives.py outputs/null_study
for name in others noise copies; do
  xraysynth study experiment=null_study study.name=null_$name \
    generator.archive.folder=outputs/null_study/$name generator.archive.name=$name
done
