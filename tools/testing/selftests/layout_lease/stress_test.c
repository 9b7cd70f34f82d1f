// SPDX-License-Identifier: GPL-2.0
/*
 * The plain operations of DAX files go on as ever: stress-ng with what writes,
 * maps, preallocates, punches and clones, on a new filesystem in DAX2,
 * and the filesystem is clean afterwards. Once without any lease, and once while
 * files of the same filesystem are leased and written to by RDMA.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>

#include "layout_lease_setup.h"

#define FILES		4
#define LEN		(LL_PAGES * ll_pg)
#define SECONDS		"15"

FIXTURE(stress) {
	struct ll_env env;
	char dev[64];
	char path[FILES][PATH_MAX];
	struct held held[FILES];
};

FIXTURE_VARIANT(stress) {
	int files;		/* leased */
};

FIXTURE_VARIANT_ADD(stress, without_leases) { 0 };
FIXTURE_VARIANT_ADD(stress, beside_leases) { FILES };

FIXTURE_SETUP(stress)
{
	int i;

	LL_NEEDS_DAX2();
	LL_ENV_INIT(&self->env, true);
	ASSERT_EQ(0, ll_renew_filesystem(self->dev, sizeof(self->dev),
					 getenv("DAX2")));
	for (i = 0; i < variant->files; i++) {
		ASSERT_EQ(0, ll_mkfile(self->path[i], PATH_MAX, getenv("DAX2"),
				       LL_PAGES, i));
		ASSERT_EQ(0, ll_hold(&self->held[i], &self->env.rdma,
				     self->path[i], LEN));
	}
}

FIXTURE_TEARDOWN(stress)
{
	ll_env_exit(&self->env);
}

TEST_F_TIMEOUT(stress, plain_operations, 240)
{
	pid_t pid = fork();
	unsigned char byte = 0;
	int i, status;

	ASSERT_LE(0, pid);
	if (!pid)
		_exit(ll_sh("mkdir $DAX2/stress && stress-ng --quiet --verify "
			    "--temp-path $DAX2/stress --timeout " SECONDS " "
			    "--fallocate 1 --fallocate-bytes 8m --fpunch 1 "
			    "--file-ioctl 1 --mmap 1 --mmap-file "
			    "--mmap-bytes 4m --msync 1 --msync-bytes 8m "
			    "--hdd 1 --hdd-bytes 8m "
			    "--seek 1 --seek-size 8m --iomix 1 "
			    "--iomix-bytes 8m --rename 1"));
	while (!waitpid(pid, &status, WNOHANG)) {
		byte++;
		for (i = 0; i < variant->files; i++)
			ASSERT_EQ(IBV_WC_SUCCESS,
				  ll_rdma_write(&self->env.rdma,
						self->held[i].map + i * ll_pg,
						self->held[i].mr->rkey, ll_pg,
						byte));
		ll_sleep_ms(10);
	}
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));

	for (i = 0; i < variant->files; i++) {
		struct held *h = &self->held[i];

		EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(h->fd));
		EXPECT_TRUE(ll_file_is(self->path[i], i * ll_pg, ll_pg, byte));
		EXPECT_EQ(0, ibv_dereg_mr(h->mr));
		EXPECT_EQ(0, munmap(h->map, LEN));
		EXPECT_EQ(0, close(h->fd));
	}
	EXPECT_TRUE(ll_no_signal());
	ASSERT_EQ(0, ll_umount(getenv("DAX2")));
	EXPECT_EQ(0, ll_fsck(self->dev));
	ASSERT_EQ(0, ll_new_filesystem(self->dev, getenv("DAX2")));
}

TEST_HARNESS_MAIN
