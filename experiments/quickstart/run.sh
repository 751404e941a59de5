#!/usr/bin/env bash
# The quickstart, and its table beside this file.
set -euo pipefail
cd "$(dirname "$0")/../.."
make quickstart
cp outputs/studies/quickstart/results.csv experiments/quickstart/results.csv
