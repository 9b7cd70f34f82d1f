// SPDX-License-Identifier: GPL-2.0
/*
 * Who may only read a file takes nothing from those who hold it: each row reads,
 * copies or tries to share its blocks, as a user who may not write it, through
 * the filesystem itself, an overlay whose lower layer it is, or NFS. The holder
 * is told nothing, and the copies are right. Who may write it still can share.
 */
#include <linux/fs.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "layout_lease_change.h"
#include "layout_lease_expect.h"
#include "layout_lease_setup.h"

#define PAGE		4096LL
#define LEN		(LL_PAGES * PAGE)
#define SEED		0x10

#define OVL		"/dev/shm/layout_lease_readers"
#define NFS		"/tmp/layout_lease_readers"

/* Where the file is used. */
enum through {
	ITSELF, OVERLAY, NFS4
};

static int call_cp(const struct ll_call *call)
{
	return ll_sh("cp %s %s 2>/dev/null", call->path, call->other) ? -EIO : 0;
}

static int call_cp_reflink(const struct ll_call *call)
{
	return ll_sh("cp --reflink=auto %s %s 2>/dev/null", call->path,
		     call->other) ? -EIO : 0;
}

static int call_cat(const struct ll_call *call)
{
	return ll_sh("cat %s >%s", call->path, call->other) ? -EIO : 0;
}

static int call_sendfile(const struct ll_call *call)
{
	long long left;
	ssize_t n;

	for (left = call->len; left > 0; left -= n) {
		n = sendfile(call->other_fd, call->fd, NULL, left);
		if (n <= 0)
			return n ? -errno : -EIO;
	}
	return 0;
}

static int call_chmod(const struct ll_call *call)
{
	return chmod(call->path, 0640) ? -errno : 0;
}

struct row {
	struct ll_call call;
	int ret;		/* 0, or the error */
	bool copies;		/* to the other file, */
	bool copies_up;		/* or to the upper layer */
};

FIXTURE(readers) {
	struct ll_env env;
	struct held held;
	struct ll_proc caller;
	char path[PATH_MAX];	/* of the file where it is used */
	char other[PATH_MAX];	/* of another one there, of uid 65534 */
	char upper[PATH_MAX];
};

FIXTURE_VARIANT(readers) {
	struct row row;
	enum through through;
};

#define READ(...)	.call = { __VA_ARGS__, .flags = LL_READ, .nobody = true }
#define ROW(name, ...)							\
	FIXTURE_VARIANT_ADD(readers, name) { .row = { __VA_ARGS__ } }
#define ROW_NFS(name, ...)						\
	FIXTURE_VARIANT_ADD(readers, nfs_##name)			\
		{ .row = { __VA_ARGS__ }, .through = NFS4 }
#define ROW_OVL(name, ...)						\
	FIXTURE_VARIANT_ADD(readers, overlay_##name)			\
		{ .row = { __VA_ARGS__ }, .through = OVERLAY }

ROW(clone, READ(ll_call_clone), -EOPNOTSUPP);
ROW(clone_range, READ(ll_call_clone, .len = PAGE), -EOPNOTSUPP);
ROW(dedupe_one_block, READ(ll_call_dedupe, .len = PAGE), -EOPNOTSUPP);
ROW(dedupe_all, READ(ll_call_dedupe, .len = LEN), -EOPNOTSUPP);
ROW(copy_file_range, READ(ll_call_copy, .len = LEN), .copies = true);
ROW(sendfile, READ(call_sendfile, .len = LEN), .copies = true);
ROW(cp, READ(call_cp), .copies = true);
ROW(cp_reflink, READ(call_cp_reflink), .copies = true);
ROW(cat, READ(call_cat), .copies = true);

/* Copy-up, by the owner of the overlay: nobody writes to the lower layer. */
ROW_OVL(chmod, .call = { call_chmod, .flags = LL_READ }, .copies_up = true);
ROW_OVL(open_to_write, .copies_up = true,
	.call = { ll_call_open, .flags = LL_READ, .mode = O_RDWR });
ROW_OVL(cp, READ(call_cp), .copies = true);

ROW_NFS(cp, READ(call_cp), .copies = true);
ROW_NFS(cat, READ(call_cat), .copies = true);
ROW_NFS(clone, READ(ll_call_clone), -EOPNOTSUPP);
ROW_NFS(copy_file_range, READ(ll_call_copy, .len = LEN), .copies = true);

/* The same file name in that directory. */
static void name_in(char out[PATH_MAX], const char *dir, const char *path)
{
	snprintf(out, PATH_MAX, "%.1000s/%.255s", dir, strrchr(path, '/') + 1);
}

FIXTURE_SETUP(readers)
{
	const char *dir = getenv("DAX1");
	char lower[PATH_MAX], upper[PATH_MAX], there[PATH_MAX];

	LL_ENV_INIT(&self->env, true);
	ASSERT_EQ(0, ll_make(self->env.path, LL_PAGES, SEED));
	ASSERT_EQ(0, chmod(self->env.path, 0644));
	snprintf(lower, sizeof(lower), "%s/lower", dir);
	if (variant->through == OVERLAY) {
		ASSERT_EQ(0, ll_sh("mkdir -p %s", lower));
		name_in(there, lower, self->env.path);
		ASSERT_EQ(0, rename(self->env.path, there));
		strcpy(self->env.path, there);
		ASSERT_EQ(0, ll_overlay_start(OVL, "$DAX1/lower"));
		snprintf(upper, sizeof(upper), "%s/upper", dir);
		name_in(self->upper, upper, self->env.path);
		dir = OVL "/merged";
	} else if (variant->through == NFS4) {
		ASSERT_EQ(0, ll_nfs_start("$DAX1", "", NFS));
		dir = NFS;
	}
	name_in(self->path, dir, self->env.path);
	snprintf(self->other, sizeof(self->other), "%.1300s.2", self->path);
	/* What is deduplicated is there already. */
	ASSERT_EQ(0, ll_make(self->other, variant->row.call.fn ==
			     ll_call_dedupe ? LL_PAGES : 0, SEED));
	ASSERT_EQ(0, chown(self->other, 65534, 65534));
}

FIXTURE_TEARDOWN(readers)
{
	/* Whoever waits, does not any more. */
	ll_let_go(&self->held);
	ll_proc_stop(&self->caller);
	unlink(self->other);
	if (variant->through == NFS4)
		ll_nfs_stop(NFS);
	ll_env_exit(&self->env);
	if (self->held.map)
		munmap(self->held.map, LEN);
	close(self->held.fd);
	if (variant->through == OVERLAY) {
		ll_overlay_stop(OVL);
		ll_sh("rmdir $DAX1/lower");
	}
}

static bool is_copy(const char *path)
{
	unsigned int i;

	for (i = 1; i < LL_PAGES; i++)
		if (!ll_file_is(path, i * PAGE, PAGE, SEED + i))
			return false;
	/* The holder may write to the beginning while others copy it. */
	return true;
}

TEST_F_TIMEOUT(readers, take_nothing, 240)
{
	const struct row *row = &variant->row;
	struct ll_call call = row->call;
	struct ll_result res = {};

	call.path = self->path;
	call.other = self->other;
	ASSERT_EQ(0, ll_call_start(&self->caller, &call));
	ASSERT_EQ(0, ll_hold(&self->held, &self->env.rdma, self->env.path,
			     LEN));
	ASSERT_EQ(0, ll_call_go(&self->caller));
	ASSERT_EQ(0, ll_done_untold(&self->caller, LL_SOON_MS, &res))
		TH_LOG("waits for the holder");
	EXPECT_EQ(row->ret, res.ret < 0 ? res.ret : 0)
		TH_LOG("%s", strerror(-res.ret));
	EXPECT_UNDISTURBED(&self->env.rdma, &self->held);
	if (row->copies)
		EXPECT_TRUE(is_copy(self->other));
	if (row->copies_up)
		EXPECT_TRUE(is_copy(self->upper));

	/* It can be leased as before. */
	EXPECT_EQ(0, ll_let_go(&self->held));
	EXPECT_EQ(0, ll_unlock(self->held.fd));
	EXPECT_EQ(0, ll_lease(self->held.fd, F_WRLCK, 0, 0));
}

/*
 * Root, and the owner of the file, do share its blocks: as ever, after the
 * holder had its time.
 */
FIXTURE(writers) {
	struct ll_env env;
	struct held held;
	struct ll_proc caller;
};

FIXTURE_VARIANT(writers) {
	struct ll_call call;
	bool owner;		/* the file is the caller's */
};

FIXTURE_VARIANT_ADD(writers, root_clone)
	{ { ll_call_clone, .flags = LL_READ } };
FIXTURE_VARIANT_ADD(writers, root_dedupe)
	{ { ll_call_dedupe, .flags = LL_READ, .len = LEN } };
FIXTURE_VARIANT_ADD(writers, owner_clone)
	{ { ll_call_clone, .flags = LL_READ, .nobody = true }, true };
FIXTURE_VARIANT_ADD(writers, owner_dedupe)
	{ { ll_call_dedupe, .flags = LL_READ, .len = LEN, .nobody = true },
	  true };

FIXTURE_SETUP(writers)
{
	LL_NEEDS_XFS();
	LL_ENV_INIT(&self->env, true);
	ASSERT_EQ(0, ll_make(self->env.path, LL_PAGES, SEED));
	ASSERT_EQ(0, ll_make(self->env.other, LL_PAGES, SEED));
	ASSERT_EQ(0, chown(self->env.other, 65534, 65534));
	if (variant->owner)
		ASSERT_EQ(0, chown(self->env.path, 65534, 65534));
}

FIXTURE_TEARDOWN(writers)
{
	/* Whoever waits, does not any more. */
	ll_let_go(&self->held);
	ll_proc_stop(&self->caller);
	ll_env_exit(&self->env);
}

TEST_F_TIMEOUT(writers, break_and_share, 240)
{
	struct ll_call call = variant->call;
	__u32 flags;

	call.path = self->env.path;
	call.other = self->env.other;
	ASSERT_EQ(0, ll_call_start(&self->caller, &call));
	ASSERT_EQ(0, ll_hold(&self->held, &self->env.rdma, self->env.path,
			     LEN));
	ASSERT_EQ(0, ll_call_go(&self->caller));
	EXPECT_SIGNAL(self->held.fd, POLL_MSG);
	EXPECT_NOT_DONE(&self->caller);
	EXPECT_EQ(0, ll_let_go(&self->held));
	EXPECT_DONE_SOON(&self->caller);
	EXPECT_LT(0, ll_block(self->held.fd, PAGE, &flags));
	EXPECT_TRUE(flags & LL_SHARED);
}

TEST_HARNESS_MAIN
