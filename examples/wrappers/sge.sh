#!/bin/bash
# A job that survives its time limit under Grid Engine (SGE, UGE, OGS): qsub sge.sh, once.
#
#$ -N app
#$ -cwd
#$ -S /bin/bash
# USR1 comes at the soft limit, KILL at the hard one.
#$ -l s_rt=03:58:00,h_rt=04:00:00
# USR1 before a suspension and USR2 before a kill as well.
#$ -notify
# A job that exits with 99 goes back into the queue.
#$ -r y
#$ -o app.out -j y

# 99 instead of 85, because Grid Engine knows that one. -notify makes use of USR2 too, which is our default signal for a
# checkpoint: it stops the job, so another one takes its place.
exec selfckpt run --dir ckpt --name app-%j-%a --every 15m --signal RTMIN+3 --stop-signal USR1,USR2 --stop-code 99 \
    -- ./app input
