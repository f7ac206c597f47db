//! Clocks.

cycles! {
    vdso_time,
}
