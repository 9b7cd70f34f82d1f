/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The fixture of all tests: a fresh file on $DAX1, a helper process, and a
 * connected pair of queue pairs unless LL_NO_RDMA is defined.
 */
#ifndef __LAYOUT_LEASE_FIXTURE_H
#define __LAYOUT_LEASE_FIXTURE_H

#include "kselftest_harness.h"
#include "layout_lease_expect.h"
#include "layout_lease_setup.h"

#ifdef LL_NO_RDMA
#define LL_WITH_RDMA	false
#else
#define LL_WITH_RDMA	true
#endif

/* Another one like that, for variants. */
#define LL_FIXTURE(name, with_rdma)					\
	FIXTURE(name) {							\
		struct ll_env env;					\
		const char *path;					\
		struct ll_proc *helper;					\
		struct ll_rdma *rdma;					\
	};								\
									\
	FIXTURE_SETUP(name)						\
	{								\
		LL_ENV_INIT(&self->env, with_rdma);			\
		self->path = self->env.path;				\
		self->helper = &self->env.helper;			\
		self->rdma = &self->env.rdma;				\
	}								\
									\
	FIXTURE_TEARDOWN(name)						\
	{								\
		ll_env_exit(&self->env);				\
	}

LL_FIXTURE(layout, LL_WITH_RDMA)

/* Emulated machines with lockdep are slow. */
#define LL_TEST(name)	TEST_F_TIMEOUT(layout, name, 240)

#endif /* __LAYOUT_LEASE_FIXTURE_H */
