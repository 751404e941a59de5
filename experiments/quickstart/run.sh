#!/usr/bin/env bash
# The quickstart, and its tables beside this file.
set -euo pipefail
cd "$(dirname "$0")/../.."
make quickstart
cp outputs/studies/quickstart/{results,measures}.csv experiments/quickstart/
