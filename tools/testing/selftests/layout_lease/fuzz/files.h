/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What else processes do with their files, beside requests.
 */
#ifndef __FUZZ_FILES_H
#define __FUZZ_FILES_H

#include "world.h"

int make_files(const char *dir);	/* those that can be opened */

/* Some of them are open, and those who are forked inherit them. */
void open_slots(void);
void close_slots(void);

void do_open(int slot);
void do_close(int slot);
void do_dup(int from, int to);
void do_plain_lease(int slot);
void do_signal(int slot);
void do_change(int slot);	/* of the layout */
void do_limit(void);		/* of leases */

/* A child inherits all open files, and gives them up when it ends. */
void inherit_slots(int children);
void give_slots_up(void);

#endif /* __FUZZ_FILES_H */
