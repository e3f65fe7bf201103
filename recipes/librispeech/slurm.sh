#!/usr/bin/env bash
# Training (stage 4) as a Slurm job on several machines, that saves before its time is up and queues itself again.
#
#   sbatch --nodes 2 --gpus-per-node 4 --ntasks-per-node 4 recipes/librispeech/slurm.sh --conf CONF --exp-dir EXP
#
# The words behind the script's name are those of todm train. All machines see CONF and EXP, and EXP has been through
# the stages 1 to 3 of run.sh.
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
  echo "slurm.sh: to be started as: sbatch slurm.sh --conf CONF --exp-dir EXP [--key.name value ...]" >&2
  exit 2
fi

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000)) # two jobs may share a machine
export MASTER_ADDR MASTER_PORT
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun does not take sbatch's by itself any more

# A process for each GPU, without torchrun: that kills 30 seconds after SIGTERM, which a validation may outlast.
# Nobody is to be killed because another was faster to end; who is left alone notices it.
code=0
# shellcheck disable=SC2016
srun --kill-on-bad-exit=0 --wait=0 bash -c '
  export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID
  export LOCAL_WORLD_SIZE=$((SLURM_NTASKS / SLURM_NNODES))
  exec todm train "$@"' todm "$@" || code=$?

# 143: SIGTERM came, five minutes before the end, and all was saved; train.resume is auto, so the job goes on from there.
if ((code == 143)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
