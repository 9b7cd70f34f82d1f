/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The ways to run requests, each for one test. What is wrong is in the report.
 */
#ifndef __FUZZ_RUN_H
#define __FUZZ_RUN_H

#include "world.h"

/* In turns: process index of those that take them; the first one gets one. */
int make_turns(void);
void take_turns(int index);
void give_turn(int to);

/* Without: process index does so many calls, or dies before that. */
void run_free(__u64 seed, int index, long calls, bool die);

/*
 * A call of F_SETLAYOUT or F_GETLAYOUT whose argument changes while the kernel
 * reads it: its errno, and in page how the second half of it looks afterwards.
 * -ENOSYS: there is no userfaultfd.
 */
#define CANARY	0x5a
int call_changed(int fd, int cmd, bool unmap, char *page);

#endif /* __FUZZ_RUN_H */
