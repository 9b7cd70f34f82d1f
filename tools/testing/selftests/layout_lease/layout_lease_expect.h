/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a holder is told, and when the helper has done what it was sent.
 */
#ifndef __LAYOUT_LEASE_EXPECT_H
#define __LAYOUT_LEASE_EXPECT_H

#include "kselftest_harness.h"
#include "layout_lease_lib.h"

#define EXPECT_SIGNAL(fd, code)						\
	do {								\
		siginfo_t info = {};					\
									\
		EXPECT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, &info));	\
		EXPECT_EQ(code, info.si_code);				\
		EXPECT_EQ(fd, info.si_fd);				\
	} while (0)

#define EXPECT_DONE_SOON(helper)					\
	do {								\
		struct ll_result res = { .ret = -1 };			\
									\
		ASSERT_EQ(0, ll_done(helper, LL_SOON_MS, &res));	\
		EXPECT_EQ(0, res.ret);					\
	} while (0)

/* Not before the deadline, and not much later. */
#define EXPECT_DONE_AT_DEADLINE(helper, seconds)			\
	do {								\
		struct ll_result res = { .ret = -1 };			\
		long ms = (seconds) * 1000;				\
									\
		ASSERT_EQ(0, ll_done(helper, ms + 2 * LL_SLACK_MS, &res)); \
		EXPECT_EQ(0, res.ret);					\
		EXPECT_LE(ms - 100, res.ms);				\
		EXPECT_GE(ms + LL_SLACK_MS, res.ms);			\
	} while (0)

#define EXPECT_NOT_DONE(helper)						\
	do {								\
		struct ll_result res;					\
									\
		EXPECT_EQ(-ETIME, ll_done(helper, 300, &res));		\
	} while (0)

/* The holder has heard nothing, and has what it had. */
#define EXPECT_UNDISTURBED(rdma, held)					\
	do {								\
		EXPECT_TRUE(ll_no_signal());				\
		EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state((held)->fd));	\
		EXPECT_TRUE(ll_mr_works(rdma, (held)->mr));		\
	} while (0)

#endif /* __LAYOUT_LEASE_EXPECT_H */
