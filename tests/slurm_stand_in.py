"""The commands of Slurm that submitit calls, as scripts that run a job array on this machine."""

from pathlib import Path

SBATCH = """#!/bin/bash
# copies the script, runs it for every task of its array, and says so as sbatch does
cp "$1" "$STAND_IN/submitted.sh"
if [ -n "$SLURM_MEM_PER_CPU$SLURM_CPU_BIND" ]; then
  echo "sbatch: fatal: SLURM_MEM_PER_CPU and SLURM_MEM_PER_NODE are mutually exclusive" >&2; exit 1
fi
array=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
script="$STAND_IN/submitted.sh"
(
  for task in $(seq 0 "${array:-0}"); do
    SLURM_JOB_ID=$((78 + task)) SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 \\
      SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0 \\
      SLURM_JOB_NODELIST=here bash "$script"
    touch "$STAND_IN/ended_$task"
  done
) > "$STAND_IN/log" 2>&1 &
echo "Submitted batch job 77"
"""

SRUN = """#!/bin/bash
while true; do
  case "$1" in
    --output | --error) shift 2 ;;
    --*) shift ;;
    *) SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=1 exec "$@" ;;
  esac
done
"""

SACCT = """#!/bin/bash
echo "JobID|State|NodeList"
for task in 0 1 2 3; do
  state=RUNNING
  [ -e "$STAND_IN/ended_$task" ] && state=COMPLETED
  echo "77_$task|$state|here"
done
"""


def write_commands(folder: Path) -> None:
    """sbatch, srun and sacct; the variable STAND_IN must name the folder."""
    folder.mkdir(parents=True)
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
