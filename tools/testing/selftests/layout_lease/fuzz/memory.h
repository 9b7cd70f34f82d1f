/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The memory that the arguments of requests lie in: what the kernel can read and
 * write of them, and that it writes nothing else.
 */
#ifndef __FUZZ_MEMORY_H
#define __FUZZ_MEMORY_H

#include "request.h"

int map_arena(void);

/* Put the struct where it belongs, and remember what is around it. */
void place_argument(struct request *r);
/* The struct as it is after the call, if it can be read. */
void read_argument(const struct request *r, struct layout_lease *arg);
/* Is memory as it was left, but for the struct? That one is arg now. */
bool memory_is(const struct request *r, const struct layout_lease *arg);

/* A thread takes the page of RACING away and brings it back, all the time. */
int race_start(void);
void race_stop(void);

#endif /* __FUZZ_MEMORY_H */
