#!/bin/bash
# A job that survives its time limit under PBS Professional, OpenPBS or Torque: qsub pbs.sh, once.
#
#PBS -N app
#PBS -l walltime=04:00:00
# May be run again; the output of both runs is kept in one file.
#PBS -r y
#PBS -j oe

# PBS sends TERM at the limit and at `qrerun`, and KILL after kill_delay (10 s by default: ask the site for more, or
# stop in time by yourself as below). It knows no exit status for "again": the script submits itself.
cd "$PBS_O_WORKDIR" || exit 1
selfckpt run --dir ckpt --name app --every 15m --stop-signal USR1,TERM -- ./app input &
pid=$!
trap 'kill -TERM $pid' TERM
# Two minutes before the limit above: the stop request that PBS does not send.
(sleep $((4 * 3600 - 120)) && kill -USR1 $pid) 2>/dev/null &
clock=$!
while wait $pid; status=$?; kill -0 $pid 2>/dev/null; do :; done
kill $clock 2>/dev/null
[ $status != 85 ] || exec qsub "$PBS_O_WORKDIR/pbs.sh"
exit $status
