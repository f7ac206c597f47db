;;; SBCL: a heap at a fixed address, a write barrier that works by SIGSEGV, a collector that is made to run often,
;;; finalizers, code that is compiled and assembled while the program runs, and bignums.
(setf (sb-ext:bytes-consed-between-gcs) (* 4 1024 1024))
(defvar *old* (make-array 20000 :initial-element nil))
(defvar *finalized* 0)

(defun remember (turn)
  "Writes young objects into old ones: what the write barrier is for."
  (loop for i from 0 below 2000
        do (setf (aref *old* (mod (+ (* turn 7919) (* i 31)) 20000)) (list turn i (format nil "~r" i)))))

(defun checksum ()
  (let ((sum 0))
    (loop for item across *old*
          when item do (setf sum (mod (+ (* sum 31) (first item) (second item) (length (third item))) 1000000007)))
    sum))

(defun leave-something ()
  (let ((thing (list 1 2 3)))
    (sb-ext:finalize thing (lambda () (incf *finalized*)) :dont-save t)
    nil))

(loop for turn from 1 to 500
      do (remember turn)
         (leave-something)
         (let ((f (when (zerop (mod turn 20)) (compile nil `(lambda (x) (+ (* x ,turn) (expt ,turn 40)))))))
           (format t "~a ~a ~a~%" turn (checksum) (if f (mod (funcall f turn) 1000003) (mod (expt 7 (* turn 50)) 1000003))))
         (when (zerop (mod turn 100)) (sb-ext:gc :full t))
         (finish-output))
(format t "end ~a~%" (checksum))
