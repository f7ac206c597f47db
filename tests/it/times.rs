//! Clocks and timers.

cycles! {
    vdso_time, timers_itimer, timers_posix, timers_overrun, timers_thread,
}
