#!/bin/bash
# A job that survives its time limit under Slurm: sbatch slurm.sh, once.
#
#SBATCH --job-name=app
#SBATCH --time=04:00:00
# USR1 to the batch shell (B:), two minutes before the limit: time enough to write the memory to the disk.
#SBATCH --signal=B:USR1@120
# May be put back into the queue, also after a node has failed. The output goes on in the same file.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=app-%j.out

# exec: selfckpt takes the place of the shell and so gets the signal. USR1 comes before the limit, TERM at `scontrol
# requeue` and at a preemption; in both cases: checkpoint, then exit with 85. Where the site has RequeueExit=85 in
# slurm.conf that is all there is to do:
#
#   exec selfckpt run --dir ckpt-%j --every 15m --stop-signal USR1,TERM -- ./app input
#
# Where it has not, the script puts itself back into the queue. The shell must then stay, and pass the signals on.
selfckpt run --dir ckpt-%j --every 15m --stop-signal USR1,TERM -- ./app input &
pid=$!
trap 'kill -USR1 $pid' USR1
trap 'kill -TERM $pid' TERM
# wait ends early when a signal comes in: wait again until the job has ended.
while wait $pid; status=$?; kill -0 $pid 2>/dev/null; do :; done
[ $status != 85 ] || exec scontrol requeue "$SLURM_JOB_ID"
exit $status
