#!/usr/bin/env bash
# Training (stage 4) as a Slurm job on several machines; saves a checkpoint before its time limit and requeues itself.
#
#   sbatch --nodes 2 --gpus-per-node 4 --ntasks-per-node 4 recipes/librispeech/slurm.sh --conf CONF --exp-dir EXP
#
# The arguments are those of todm train. CONF and EXP are on shared storage, and stages 1 to 3 of run.sh are done.
#SBATCH --job-name=todm
#SBATCH --nodes=2
#SBATCH --gpus-per-node=4
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

if [[ ! ${SLURM_JOB_NODELIST-} || $# == 0 ]]; then
  echo "slurm.sh: start it as: sbatch slurm.sh --conf CONF --exp-dir EXP [--key.name value ...]" >&2
  exit 2
fi

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000)) # differs between jobs on one machine
export MASTER_ADDR MASTER_PORT
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # newer versions of srun ignore the value of sbatch

# One process per GPU, without torchrun, which kills processes 30 seconds after SIGTERM, even during a validation.
# A process that ends early must not cause the others to be killed; they detect it themselves.
code=0
# shellcheck disable=SC2016
srun --kill-on-bad-exit=0 --wait=0 bash -c '
  export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID
  export LOCAL_WORLD_SIZE=$((SLURM_NTASKS / SLURM_NNODES))
  exec todm train "$@"' todm "$@" || code=$?

# 143: SIGTERM arrived five minutes before the time limit and a checkpoint is saved, from which the new job resumes.
if ((code == 143)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
