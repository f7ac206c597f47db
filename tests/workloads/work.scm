;; Lists, closures, hash tables, big numbers, strings, the collector; a line for each step.

;; Guile runs finalizers on a thread of their own unless it is told not to; programs with one thread
;; are the subject here.
(use-modules (system foreign))
((pointer->procedure int (dynamic-func "scm_set_automatic_finalization_enabled" (dynamic-link))
                     (list int))
 0)

(define state 7)
(define (mix! value)
  (set! state (modulo (+ (* state 31) value) 4294967291)))

(define (fib n)
  (if (< n 2) n (+ (fib (- n 1)) (fib (- n 2)))))

(define (queens board-size)
  (define (safe? queen distance others)
    (or (null? others)
        (and (not (= (car others) queen))
             (not (= (abs (- (car others) queen)) distance))
             (safe? queen (+ distance 1) (cdr others)))))
  (let place ((row 0) (board '()))
    (if (= row board-size)
        1
        (let next ((column 0) (count 0))
          (if (= column board-size)
              count
              (next (+ column 1)
                    (if (safe? column 1 board)
                        (+ count (place (+ row 1) (cons column board)))
                        count)))))))

(define table (make-hash-table))
(define big 1)

(do ((step 1 (+ step 1)))
    ((> step 90))
  (mix! (fib 21))
  (mix! (queens 7))
  (do ((i 0 (+ i 1)))
      ((= i 4000))
    (let ((key (string-append "k" (number->string (modulo (* i step 7919) 10007)))))
      (hash-set! table key (+ i (hash-ref table key 0)))))
  (set! big (+ step (* big (+ step 1000003))))
  (mix! (modulo big 1000000007))
  (mix! (apply + (map (lambda (n) (modulo (* n n) 97)) (iota 20000))))
  (mix! (string-length (number->string (expt big 30))))
  (display step)
  (display " ")
  (display state)
  (display " ")
  (display (hash-count (const #t) table))
  (newline)
  (force-output))
(exit 9)
