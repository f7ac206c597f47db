#!/bin/bash
# An array job under Slurm: each task is a job of its own for selfckpt, in one directory, told apart by %a.
#
#SBATCH --array=1-20
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=app-%A_%a.out

# Needs RequeueExit=85 in slurm.conf; slurm.sh shows what to do without it.
exec selfckpt run --dir ckpt --name app-%a --every 15m --stop-signal USR1,TERM -- ./app "input.$SLURM_ARRAY_TASK_ID"
