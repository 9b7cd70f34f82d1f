/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The model: which leases there must be. Pieces [lo, hi) stand for a range.
 */
#ifndef __FUZZ_MODEL_H
#define __FUZZ_MODEL_H

#include "request.h"

/* What a request that is right answers (arg is the struct then), and does. */
int model_call(const struct request *r, struct layout_lease *arg);

/* Those pieces of a file are broken. */
void model_break(enum file file, unsigned int lo, unsigned int hi);
/* An open file description goes away. */
void model_forget(struct desc *d);

/* What F_GETLAYOUT answers, and which pieces it looks at. */
void model_query(const struct desc *d, unsigned int lo, unsigned int hi,
		 struct layout_lease *arg);
void model_asked(const struct layout_lease *arg, unsigned int *lo,
		 unsigned int *hi);

/* How many leases nobody, or all the others, pay for. */
int model_count(bool nobody);

#endif /* __FUZZ_MODEL_H */
