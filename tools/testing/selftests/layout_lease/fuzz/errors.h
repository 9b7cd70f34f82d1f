/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sets of errors that a request may end with; 0 is a member like any other.
 */
#ifndef __FUZZ_ERRORS_H
#define __FUZZ_ERRORS_H

#include "request.h"

struct errors {
	__u64 bits[3];
};

bool has_error(const struct errors *set, int error);
bool is_empty(const struct errors *set);

/* Those of a request that is wrong in itself; empty: it is right. */
struct errors deserved_errors(const struct request *r);
/* Those of one that is right, while others hold leases that nobody knows. */
struct errors possible_errors(const struct request *r);

#endif /* __FUZZ_ERRORS_H */
