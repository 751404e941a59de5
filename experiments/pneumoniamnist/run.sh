#!/usr/bin/env bash
# Put pneumoniamnist.npz into data/medmnist first; an error says where to get it.
set -euo pipefail
cd "$(dirname "$0")/../.."
make setup
.venv/bin/xraysynth train experiment=pneumoniamnist
