// SPDX-License-Identifier: GPL-2.0
/*
 * What makes durable what peers write by RDMA: what fsync() writes back, as the
 * tracepoint dax_writeback_one tells it, since an emulated machine does not lose
 * what is in the cache of its processor; and what is in a file after a crash.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layout_lease_setup.h"

#define TRACEFS		"/sys/kernel/tracing"
#define INSTANCE	TRACEFS "/instances/layout_lease"
#define MB		(1024LL * 1024)
#define LEN		(8 * MB)
#define MAPPINGS	1100	/* GUP_PIN_COUNTING_BIAS is 1024 */

FIXTURE(durability) {
	struct ll_env env;
	struct ll_rdma *r;
	unsigned long long ino;
	int fd;
	char *map;
};

FIXTURE_SETUP(durability)
{
	struct stat st;
	int ret;

	LL_ENV_INIT(&self->env, true);
	if (access(TRACEFS "/instances", F_OK))
		ll_sh("mount -t tracefs tracefs " TRACEFS);
	LL_ENV_SKIP_IF(&self->env,
		       (mkdir(INSTANCE, 0700) && errno != EEXIST) ||
		       ll_write_str(INSTANCE "/events/fs_dax/dax_writeback_one/enable",
				    "1"),
		       "no tracepoint fs_dax:dax_writeback_one");
	self->r = &self->env.rdma;
	self->fd = open(self->env.path, O_RDWR);
	ret = ll_fill(self->fd, LEN / ll_pg, 0);
	self->map = ll_map(self->fd, 0, LEN, PROT_READ | PROT_WRITE);
	if (!ret && self->map == MAP_FAILED)
		ret = -errno;
	if (!ret && (fstat(self->fd, &st) || fsync(self->fd)))
		ret = -errno;
	LL_ENV_ASSERT(&self->env, ret);
	self->ino = st.st_ino;
}

FIXTURE_TEARDOWN(durability)
{
	ll_env_exit(&self->env);
	rmdir(INSTANCE);
}

/* Forget what was written back so far; truncate() would not. */
#define ASSERT_FORGET() \
	ASSERT_EQ(0, close(open(INSTANCE "/trace", O_WRONLY | O_TRUNC)))

/*
 * How many pages of this part of the file were written back since then, each
 * counted once.
 */
static int written_back(unsigned long long ino, off_t offset, size_t len)
{
	unsigned long from = offset / ll_pg, to = (offset + len) / ll_pg;
	unsigned long long line_ino;
	unsigned long first, nr, i;
	char line[512], *event;
	bool *seen = calloc(to - from, sizeof(*seen));
	FILE *f = fopen(INSTANCE "/trace", "r");
	int sum = 0;

	if (!f || !seen)
		exit(KSFT_FAIL);
	while (fgets(line, sizeof(line), f)) {
		event = strstr(line, "dax_writeback_one: ");
		if (!event || sscanf(event, "%*s dev %*s ino %llx pgoff %lx pglen %lx",
				     &line_ino, &first, &nr) != 3 ||
		    line_ino != ino)
			continue;
		for (i = first; i < first + nr; i++) {
			if (i < from || i >= to || seen[i - from])
				continue;
			seen[i - from] = true;
			sum++;
		}
	}
	fclose(f);
	free(seen);
	return sum;
}

/* Of the first page, fsync() writes back so many, which is one or none. */
#define EXPECT_FSYNC_WRITES(pages, fd, ino)				\
	do {								\
		ASSERT_FORGET();					\
		EXPECT_EQ(0, fsync(fd));				\
		EXPECT_EQ(pages, written_back(ino, 0, ll_pg));		\
	} while (0)

#define PAGES(len)	((int)((len) / ll_pg))

/*
 * The processor never writes to the mapping, and after the first fsync() all of
 * it is write-protected: only the pin tells that there may be new data.
 */
TEST_F_TIMEOUT(durability, fsync_covers_writable_regions, 240)
{
	struct ibv_mr *mr;
	int i;

	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	mr = ll_reg(self->r, self->map + 2 * MB, 4 * MB, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(IBV_WC_SUCCESS,
			  ll_rdma_write(self->r, self->map + 3 * MB, mr->rkey,
					ll_pg, 0x51 + i));
		ASSERT_FORGET();
		EXPECT_EQ(0, fsync(self->fd));
		EXPECT_EQ(PAGES(4 * MB),
			  written_back(self->ino, 2 * MB, 4 * MB));
	}
	/* Written by nobody, pinned by nobody. */
	EXPECT_EQ(0, written_back(self->ino, 0, 2 * MB));
	EXPECT_EQ(0, written_back(self->ino, 6 * MB, 2 * MB));

	EXPECT_EQ(IBV_WC_SUCCESS,
		  ll_rdma_write(self->r, self->map + 3 * MB, mr->rkey, ll_pg,
				0x61));
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	ASSERT_FORGET();
	EXPECT_EQ(0, fsync(self->fd));
	EXPECT_EQ(PAGES(4 * MB), written_back(self->ino, 2 * MB, 4 * MB));

	/* And not for ever. */
	ASSERT_FORGET();
	EXPECT_EQ(0, fsync(self->fd));
	EXPECT_EQ(0, written_back(self->ino, 0, LEN));
	EXPECT_TRUE(ll_file_is(self->env.path, 3 * MB, ll_pg, 0x61));
}

/* After a revocation too. */
TEST_F_TIMEOUT(durability, fsync_covers_revoked_regions, 240)
{
	struct ibv_mr *mr;

	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	mr = ll_reg(self->r, self->map + 2 * MB, 4 * MB, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(0, fsync(self->fd));
	EXPECT_EQ(IBV_WC_SUCCESS,
		  ll_rdma_write(self->r, self->map + 5 * MB, mr->rkey, ll_pg,
				0x71));
	ASSERT_FORGET();
	ASSERT_EQ(0, ll_revoke(self->fd));
	EXPECT_EQ(0, fsync(self->fd));
	EXPECT_EQ(PAGES(4 * MB), written_back(self->ino, 2 * MB, 4 * MB));
	ASSERT_FORGET();
	EXPECT_EQ(0, fsync(self->fd));
	EXPECT_EQ(0, written_back(self->ino, 0, LEN));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

/* A mapping whose faults make the metadata durable is written to as any other. */
TEST_F_TIMEOUT(durability, fsync_covers_synchronous_mappings, 240)
{
	struct ibv_mr *mr;
	char *map;
	int i;

	ASSERT_EQ(0, munmap(self->map, LEN));
	map = mmap(NULL, LEN, PROT_READ | PROT_WRITE,
		   MAP_SHARED_VALIDATE | MAP_SYNC, self->fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	mr = ll_reg(self->r, map + 2 * MB, 4 * MB, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	for (i = 0; i < 2; i++) {
		ASSERT_FORGET();
		EXPECT_EQ(0, fsync(self->fd));
		EXPECT_EQ(PAGES(4 * MB),
			  written_back(self->ino, 2 * MB, 4 * MB));
	}
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

/* Nobody can write through these. */
TEST_F_TIMEOUT(durability, read_only_regions_stay_clean, 240)
{
	struct ibv_mr *mr;
	char *map;

	ASSERT_EQ(0, munmap(self->map, LEN));
	map = ll_map(self->fd, 0, LEN, PROT_READ);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, ll_lease(self->fd, F_RDLCK, 0, 0));
	mr = ll_reg(self->r, map, LEN, IBV_ACCESS_REMOTE_READ);
	ASSERT_NE(NULL, mr);
	ASSERT_FORGET();
	EXPECT_EQ(0, fsync(self->fd));
	EXPECT_EQ(0, written_back(self->ino, 0, LEN));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

/*
 * Neither is a page pinned that is mapped more often than a pin counts, nor is a
 * pin lost among the mappings.
 */
TEST_F_TIMEOUT(durability, many_mappings_are_no_pin, 240)
{
	char path[PATH_MAX + 8], *map;
	struct stat st;
	struct ibv_mr *mr;
	int fd, i;

	snprintf(path, sizeof(path), "%s.2", self->env.path);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	unlink(path);
	/* One page, hence one of its own. */
	ASSERT_EQ(0, fallocate(fd, 0, 0, ll_pg));
	ASSERT_EQ(0, fstat(fd, &st));
	for (i = 0; i < MAPPINGS; i++) {
		map = mmap(NULL, ll_pg, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   0);
		ASSERT_NE(MAP_FAILED, map);
		*(volatile char *)map += !i;
	}
	EXPECT_FSYNC_WRITES(1, fd, st.st_ino);
	EXPECT_FSYNC_WRITES(0, fd, st.st_ino);

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	mr = ll_reg(self->r, map, ll_pg, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	for (i = 0; i < 2; i++) {
		EXPECT_FSYNC_WRITES(1, fd, st.st_ino);
	}
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_FSYNC_WRITES(1, fd, st.st_ino);
	EXPECT_FSYNC_WRITES(0, fd, st.st_ino);
	EXPECT_EQ(0, close(fd));
}

/*
 * Small operations anywhere in the file do not lose what is dirty: neither
 * elsewhere nor beside them in the same 2 MiB.
 */
TEST_F_TIMEOUT(durability, punch_keeps_what_is_dirty, 240)
{
	ASSERT_FORGET();
	self->map[MB] = 1;
	self->map[5 * MB] = 2;
	ASSERT_EQ(0, ll_punch(self->fd, 0, ll_pg));
	EXPECT_EQ(0, fsync(self->fd));
	EXPECT_EQ(1, written_back(self->ino, MB, ll_pg));
	EXPECT_EQ(1, written_back(self->ino, 5 * MB, ll_pg));
}

TEST_F_TIMEOUT(durability, truncate_keeps_what_is_dirty, 240)
{
	ASSERT_FORGET();
	self->map[MB] = 1;
	self->map[6 * MB] = 2;
	ASSERT_EQ(0, ftruncate(self->fd, 7 * MB));
	EXPECT_EQ(0, fsync(self->fd));
	EXPECT_EQ(1, written_back(self->ino, MB, ll_pg));
	EXPECT_EQ(1, written_back(self->ino, 6 * MB, ll_pg));
}

/*
 * What is in a file after a crash: data that peers wrote into blocks that were
 * preallocated, for which the filesystem has to remember that they are written.
 */
FIXTURE(crash) {
	struct ll_env env;
	char dev[64];
	char *dir;
	char path[PATH_MAX];
};

FIXTURE_VARIANT(crash) {
	int map_flags;
	bool fsync;
};

FIXTURE_VARIANT_ADD(crash, map_sync) {
	.map_flags = MAP_SHARED_VALIDATE | MAP_SYNC,
};

FIXTURE_VARIANT_ADD(crash, fsync) {
	.map_flags = MAP_SHARED,
	.fsync = true,
};

FIXTURE_SETUP(crash)
{
	LL_NEEDS_DAX2();
	self->dir = getenv("DAX2");
	if (ll_source(self->dev, sizeof(self->dev), self->dir))
		SKIP(return, "DAX2 is not mounted");
	LL_ENV_INIT(&self->env, true);
	snprintf(self->path, sizeof(self->path), "%s/crash", self->dir);
}

FIXTURE_TEARDOWN(crash)
{
	unlink(self->path);
	ll_env_exit(&self->env);
}

TEST_F_TIMEOUT(crash, written_data_stays, 240)
{
	uint32_t without_log = 2;
	struct ll_rdma *r = &self->env.rdma;
	struct ibv_mr *mr;
	char *map;
	int fd = open(self->path, O_RDWR | O_CREAT | O_EXCL, 0600);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fallocate(fd, 0, 0, MB));
	ASSERT_EQ(0, fsync(fd));
	map = mmap(NULL, MB, PROT_READ | PROT_WRITE, variant->map_flags, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	mr = ll_reg(r, map, MB, LL_ACCESS);
	ASSERT_NE(NULL, mr);
	if (variant->fsync)
		ASSERT_EQ(0, fsync(fd));
	EXPECT_EQ(IBV_WC_SUCCESS,
		  ll_rdma_write(r, map + 7 * ll_pg, mr->rkey, ll_pg, 0xc7));

	/* Nothing that is in the log in memory alone gets out any more. */
	ASSERT_EQ(0, ioctl(fd, _IOR('X', 125, uint32_t), &without_log));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	ASSERT_EQ(0, munmap(map, MB));
	ASSERT_EQ(0, close(fd));
	ASSERT_EQ(0, ll_umount(self->dir));
	ASSERT_EQ(0, ll_sh("mount -o dax=always /dev/%s %s", self->dev,
			   self->dir));
	EXPECT_TRUE(ll_file_is(self->path, 7 * ll_pg, ll_pg, 0xc7));
	EXPECT_TRUE(ll_file_is(self->path, 8 * ll_pg, ll_pg, 0));
}

TEST_HARNESS_MAIN
