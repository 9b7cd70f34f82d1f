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

FIXTURE(layout) {
	struct ll_env env;
	const char *path;
	struct ll_proc *helper;
	struct ll_rdma *rdma;
};

FIXTURE_SETUP(layout)
{
	LL_ENV_INIT(&self->env, LL_WITH_RDMA);
	self->path = self->env.path;
	self->helper = &self->env.helper;
	self->rdma = &self->env.rdma;
}

FIXTURE_TEARDOWN(layout)
{
	ll_env_exit(&self->env);
}

/* Emulated machines with lockdep are slow. */
#define LL_TEST(name)	TEST_F_TIMEOUT(layout, name, 240)

#endif /* __LAYOUT_LEASE_FIXTURE_H */
