/*
 * selfckpt.h - checkpoints of a program from within the program.
 *
 * A program that includes this file needs no library to link with: the calls are looked up when the
 * program starts, as weak symbols, and are answered by libselfckpt.so where it is loaded
 * (LD_PRELOAD=libselfckpt.so, or `selfckpt run`). Where it is not loaded the program runs all the
 * same, and the calls say so:
 *
 *   ckpt_available() and ckpt_generation() return 0; ckpt_now() returns -1 with errno ENOSYS; the
 *   other calls return 0 and do nothing.
 *
 * For code compiled as position independent (-fPIE or -fPIC), which is what compilers do by default.
 * In code compiled with -fno-pie the linker settles weak symbols for good, as absent; look the calls
 * up by dlsym(RTLD_DEFAULT, "ckpt_now") there.
 *
 * C and C++. All calls may be made from any thread; none may be made from a signal handler.
 */
#ifndef SELFCKPT_H
#define SELFCKPT_H

#include <errno.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Each call exists twice: the symbol of the library, weak, and a function here that calls it if it is
 * there. Programs use the names without an underscore at the end.
 */
#define CKPT_WEAK_(name) __asm__(#name) __attribute__((weak))
#define CKPT_LOCAL_ static __inline__ __attribute__((unused))

/* When a function of ckpt_on() is called. */
enum ckpt_event {
    CKPT_CHECKPOINT = 0, /* before a checkpoint is taken */
    CKPT_CONTINUE = 1,   /* after it, in the program that goes on, whether it succeeded or not */
    CKPT_RESTART = 2     /* after a restart from it */
};

extern int ckpt_now_(void) CKPT_WEAK_(ckpt_now);
extern int ckpt_available_(void) CKPT_WEAK_(ckpt_available);
extern int ckpt_generation_(void) CKPT_WEAK_(ckpt_generation);
extern int ckpt_block_(void) CKPT_WEAK_(ckpt_block);
extern int ckpt_unblock_(void) CKPT_WEAK_(ckpt_unblock);
extern int ckpt_on_(enum ckpt_event, void (*)(enum ckpt_event, void *), void *) CKPT_WEAK_(ckpt_on);
extern int ckpt_exclude_(void *, size_t) CKPT_WEAK_(ckpt_exclude);
extern int ckpt_include_(void *, size_t) CKPT_WEAK_(ckpt_include);

/* The functions below must not be taken for the library's symbols by the assembler. */
CKPT_LOCAL_ int ckpt_now(void) __asm__("selfckpt_inline_now");
CKPT_LOCAL_ int ckpt_available(void) __asm__("selfckpt_inline_available");
CKPT_LOCAL_ int ckpt_generation(void) __asm__("selfckpt_inline_generation");
CKPT_LOCAL_ int ckpt_block(void) __asm__("selfckpt_inline_block");
CKPT_LOCAL_ int ckpt_unblock(void) __asm__("selfckpt_inline_unblock");
CKPT_LOCAL_ int ckpt_on(enum ckpt_event event, void (*fn)(enum ckpt_event, void *), void *arg)
    __asm__("selfckpt_inline_on");
CKPT_LOCAL_ int ckpt_exclude(void *addr, size_t len) __asm__("selfckpt_inline_exclude");
CKPT_LOCAL_ int ckpt_include(void *addr, size_t len) __asm__("selfckpt_inline_include");

/*
 * Takes a checkpoint now. Returns three times, so to speak:
 *   > 0  the image is written, its generation is the result, and the program goes on;
 *   0    the program has just been restarted from that image;
 *   -1   there is no new image; errno says why: ENOSYS no library, EBUSY inside a blocked section,
 *        ENOSPC, EIO, ENOTSUP (something that cannot be saved) ... The program goes on.
 */
CKPT_LOCAL_ int ckpt_now(void)
{
    if (ckpt_now_)
        return ckpt_now_();
    errno = ENOSYS;
    return -1;
}

/* 1 if the library is loaded, else 0. */
CKPT_LOCAL_ int ckpt_available(void)
{
    return ckpt_available_ ? ckpt_available_() : 0;
}

/* The newest generation that is written, 0 if there is none. */
CKPT_LOCAL_ int ckpt_generation(void)
{
    return ckpt_generation_ ? ckpt_generation_() : 0;
}

/*
 * A section that no checkpoint may cut: while a device is being talked to, say. Sections nest. A
 * checkpoint that is asked for inside is taken when the outermost one ends. 0, or -1 with errno.
 */
CKPT_LOCAL_ int ckpt_block(void)
{
    return ckpt_block_ ? ckpt_block_() : 0;
}
CKPT_LOCAL_ int ckpt_unblock(void)
{
    return ckpt_unblock_ ? ckpt_unblock_() : 0;
}

/*
 * Calls fn(event, arg) at the event from now on, up to 64 functions, in the order in which they were
 * given. They run on the thread that takes the checkpoint, with its signal mask, while the other threads
 * go on. Around ckpt_now() they may do whatever the program may do there. A checkpoint that is asked
 * for by a signal or a command interrupts the thread anywhere: there they may do what a signal handler
 * may do (see signal-safety(7)), errno kept; ckpt_block() keeps it away from sections where that is not enough.
 * A checkpoint that stops the program calls CKPT_CHECKPOINT, and CKPT_RESTART after the restart.
 */
CKPT_LOCAL_ int ckpt_on(enum ckpt_event event, void (*fn)(enum ckpt_event, void *), void *arg)
{
    return ckpt_on_ ? ckpt_on_(event, fn, arg) : 0;
}

/*
 * Memory that need not be saved: a cache, a scratch buffer. Its whole pages are left out of images, and
 * read as zeros after a restart; the program that goes on keeps them. It holds for anonymous memory (heap,
 * mmap, .bss), up to 256 ranges, until ckpt_include() is called, which takes every page that the range
 * touches. 0, or -1 with errno (ENOMEM: too many ranges).
 */
CKPT_LOCAL_ int ckpt_exclude(void *addr, size_t len)
{
    return ckpt_exclude_ ? ckpt_exclude_(addr, len) : 0;
}
CKPT_LOCAL_ int ckpt_include(void *addr, size_t len)
{
    return ckpt_include_ ? ckpt_include_(addr, len) : 0;
}

#undef CKPT_WEAK_
#undef CKPT_LOCAL_

#ifdef __cplusplus
}
#endif

#endif
