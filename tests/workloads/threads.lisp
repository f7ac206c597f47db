;;; SBCL with threads, which the collector stops by signals.
(setf (sb-ext:bytes-consed-between-gcs) (* 4 1024 1024))
(defvar *lock* (sb-thread:make-mutex))
(defvar *sum* 0)
(defvar *turn* 0)

(defun work (number)
  (let ((mine 0))
    (loop for i from 1 to 150000
          do (let ((words (loop for k from 1 to 20 collect (format nil "~d" (* number i k)))))
               (setf mine (mod (+ (* mine 31) (reduce #'+ (mapcar #'length words))) 1000000007)))
             (when (zerop (mod i 10000))
               (sb-thread:with-mutex (*lock*) (incf *turn*))))
    (sb-thread:with-mutex (*lock*) (setf *sum* (mod (+ *sum* mine) 1000000007)))
    mine))

(let ((threads (loop for n from 1 to 3 collect (let ((n n)) (sb-thread:make-thread (lambda () (work n)))))))
  (dolist (thread threads)
    (format t "~a~%" (sb-thread:join-thread thread))
    (finish-output)))
(format t "sum ~a turns ~a~%" *sum* *turn*)
