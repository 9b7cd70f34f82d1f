/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the setups of fixtures begin with. A setup that fails or skips has no
 * teardown, so these leave nothing behind.
 */
#ifndef __LAYOUT_LEASE_SETUP_H
#define __LAYOUT_LEASE_SETUP_H

#include "kselftest_harness.h"
#include "layout_lease_lib.h"

/* ll_env_init(), or the test is skipped. */
#define LL_ENV_INIT(env, rdma)						\
	do {								\
		const char *why = ll_env_init(env, rdma);		\
									\
		if (why)						\
			SKIP(return, "%s", why);			\
	} while (0)

/* After that: the test is skipped. */
#define LL_ENV_SKIP_IF(env, condition, ...)				\
	do {								\
		if (condition) {					\
			ll_env_exit(env);				\
			SKIP(return, __VA_ARGS__);			\
		}							\
	} while (0)

/* After that: ret must be 0. */
#define LL_ENV_ASSERT(env, ret)						\
	do {								\
		if (ret)						\
			ll_env_exit(env);				\
		ASSERT_EQ(0, ret);					\
	} while (0)

/* Before that, what the test cannot do without. */
#define LL_NEEDS_XFS_IF(condition)					\
	do {								\
		if ((condition) && !ll_is_xfs())			\
			SKIP(return, "XFS only");			\
	} while (0)

#define LL_NEEDS_XFS()	LL_NEEDS_XFS_IF(true)

/* The one that has what a row does, NULL for any. */
#define LL_NEEDS_FS(fs)							\
	do {								\
		if ((fs) && ll_is_xfs() != !strcmp(fs, "xfs"))		\
			SKIP(return, "%s only", fs);			\
	} while (0)

#define LL_NEEDS_DAX2_IF(condition)					\
	do {								\
		if ((condition) && !getenv("DAX2"))			\
			SKIP(return, "DAX2 names no DAX filesystem");	\
	} while (0)

#define LL_NEEDS_DAX2()	LL_NEEDS_DAX2_IF(true)

/* To the harness it is a pass if all tests were skipped. */
static void __attribute__((destructor)) ll_skip_if_all_were(void)
{
	unsigned int skipped = ksft_get_xskip_cnt();

	if (skipped && skipped == ksft_test_num()) {
		fflush(stdout);
		_exit(KSFT_SKIP);
	}
}

#endif /* __LAYOUT_LEASE_SETUP_H */
