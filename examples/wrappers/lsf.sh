#!/bin/bash
# A job that survives its time limit under LSF: bsub < lsf.sh, once.
#
#BSUB -J app
#BSUB -W 4:00
# URG ten minutes before the limit (-wa the signal, -wt how long before; whole minutes).
#BSUB -wa URG -wt 10
# Goes back into the queue when a host fails, and when it exits with 85.
#BSUB -r
#BSUB -Q "85"
# Without %J, LSF appends to the file.
#BSUB -o app.out

# USR2 is sent by LSF before a job is killed or requeued by hand; TERM follows. Each of them: checkpoint, and exit with
# 85. Our own signal for a checkpoint is another one.
exec selfckpt run --dir ckpt --name app-%j-%a --every 15m --signal RTMIN+3 --stop-signal URG,USR2,TERM -- ./app input
