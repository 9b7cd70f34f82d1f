// SPDX-License-Identifier: GPL-2.0
/*
 * What the wait for users of DAX pages does without any lease: it ends when they
 * do.
 */
#define LL_NO_RDMA
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "layout_lease_fixture.h"

/*
 * Whoever waits does not keep others from the page, and a page that is mapped
 * is not one that is in use.
 */
LL_TEST(mapped_again_while_waiting)
{
	struct iovec iov = { .iov_len = ll_pg };
	int fd = open(self->path, O_RDWR), ends[2];
	volatile char *map = ll_map(fd, 0, ll_pg, PROT_READ);

	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, pipe(ends));
	iov.iov_base = (void *)map;
	ASSERT_EQ(ll_pg, syscall(__NR_vmsplice, ends[1], &iov, 1, 0));

	ll_send(self->helper, LL_OP_PUNCH, self->path, 0, ll_pg, 0);
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(0, *map);
	EXPECT_NOT_DONE(self->helper);
	EXPECT_EQ(0, *map);
	close(ends[0]);
	close(ends[1]);
	EXPECT_DONE_SOON(self->helper);
}

TEST_HARNESS_MAIN
