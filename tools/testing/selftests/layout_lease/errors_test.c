// SPDX-License-Identifier: GPL-2.0
/*
 * Malformed or forbidden requests: each gets the error that the documentation
 * promises, and changes nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#define LL_NO_RDMA
#include "layout_lease_fixture.h"

static struct layout_lease request(int type)
{
	return (struct layout_lease) {
		.size = sizeof(struct layout_lease),
		.type = type,
		.len = 4096,
	};
}

static int set_raw(int fd, const void *arg)
{
	return fcntl(fd, F_SETLAYOUT, arg) ? -errno : 0;
}

static int get_raw(int fd, void *arg)
{
	return fcntl(fd, F_GETLAYOUT, arg) ? -errno : 0;
}

/* Run fn(fd) in a process without privileges: its return value. */
static int unprivileged(int fd, int (*fn)(int fd))
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(ll_drop_privileges() ? 255 : -fn(fd));
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;
	return -WEXITSTATUS(status);
}

static int lease_shared(int fd)
{
	return ll_lease(fd, F_RDLCK, 0, 0);
}

static int lease_shared_old(int fd)
{
	return fcntl(fd, F_SETLEASE, F_LAYOUT | F_RDLCK) ? -errno : 0;
}

static int seize(int fd)
{
	return ll_setlayout(fd, F_UNLCK, 0, 0, LAYOUT_LEASE_SEIZE);
}

static int seize_filesystem(int fd)
{
	return ll_setlayout(fd, F_UNLCK, 0, 0, LAYOUT_LEASE_SEIZE_FS);
}

LL_TEST(bad_type)
{
	static const int types[] = { 3, 4, F_LAYOUT | F_RDLCK, F_LAYOUT | F_WRLCK,
				     0xffff };
	int fd = open(self->path, O_RDWR);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		EXPECT_EQ(-EINVAL, ll_lease(fd, types[i], 0, 0))
			TH_LOG("type %d", types[i]);
	}
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
	EXPECT_EQ(0, ll_proc_locks(fd));
}

LL_TEST(bad_size)
{
	static const unsigned int sizes[] = { 0, 1, 8,
					      LAYOUT_LEASE_SIZE_VER0 - 1 };
	struct layout_lease lease = request(F_RDLCK);
	int fd = open(self->path, O_RDWR);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		lease.size = sizes[i];
		EXPECT_EQ(-EINVAL, set_raw(fd, &lease))
			TH_LOG("size %u", sizes[i]);
		EXPECT_EQ(-EINVAL, get_raw(fd, &lease))
			TH_LOG("size %u", sizes[i]);
	}
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
}

LL_TEST(newer_struct)
{
	struct {
		struct layout_lease lease;
		char more[32];
	} arg = { .lease = request(F_RDLCK) };
	int fd = open(self->path, O_RDWR);

	arg.lease.size = sizeof(arg);
	arg.more[31] = 1;
	EXPECT_EQ(-E2BIG, set_raw(fd, &arg));
	EXPECT_EQ(-E2BIG, get_raw(fd, &arg));
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));

	/* What is zero is no news. */
	arg.more[31] = 0;
	EXPECT_EQ(0, set_raw(fd, &arg));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(fd));
	arg.lease = request(F_UNLCK);
	arg.lease.size = sizeof(arg);
	EXPECT_EQ(0, get_raw(fd, &arg));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, arg.lease.state);
}

LL_TEST(absurd_size)
{
	struct layout_lease *arg = calloc(4, ll_pg);
	int fd = open(self->path, O_RDWR);

	ASSERT_NE(NULL, arg);
	*arg = request(F_RDLCK);
	arg->size = 2 * ll_pg;
	EXPECT_EQ(-E2BIG, set_raw(fd, arg));
	arg->size = UINT_MAX;
	EXPECT_EQ(-E2BIG, set_raw(fd, arg));
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
}

LL_TEST(bad_flags)
{
	static const struct {
		int type;
		unsigned int flags;
	} bad[] = {
		{ F_RDLCK, 0x10 },
		{ F_RDLCK, 0x80000000 },
		{ F_UNLCK, 0x10 },
		{ F_UNLCK, 0x80000000 | LAYOUT_LEASE_REVOKE },
		{ F_RDLCK, LAYOUT_LEASE_REVOKE },
		{ F_WRLCK, LAYOUT_LEASE_REVOKE },
		{ F_RDLCK, LAYOUT_LEASE_SEIZE },
		{ F_WRLCK, LAYOUT_LEASE_SEIZE },
		{ F_RDLCK, LAYOUT_LEASE_SEIZE_FS },
		{ F_RDLCK, LAYOUT_LEASE_REVOKE | LAYOUT_LEASE_SEIZE },
		{ F_UNLCK, LAYOUT_LEASE_SEIZE | LAYOUT_LEASE_SEIZE_FS },
		{ F_RDLCK, LAYOUT_LEASE_BREAK },
		{ F_WRLCK, LAYOUT_LEASE_BREAK },
		{ F_UNLCK, LAYOUT_LEASE_BREAK | LAYOUT_LEASE_REVOKE },
		{ F_UNLCK, LAYOUT_LEASE_BREAK | LAYOUT_LEASE_SEIZE },
	};
	struct layout_lease lease = request(F_UNLCK);
	int fd = open(self->path, O_RDWR);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EINVAL, ll_setlayout(fd, bad[i].type, 0, 0,
						bad[i].flags))
			TH_LOG("type %d flags %#x", bad[i].type, bad[i].flags);
	}
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));

	lease.flags = LAYOUT_LEASE_BREAK;
	EXPECT_EQ(-EINVAL, get_raw(fd, &lease));
}

/* A refused request leaves the lease that is there alone. */
LL_TEST(refused_keeps_lease)
{
	int fd = open(self->path, O_RDWR);
	struct layout_lease lease;

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, ll_pg, ll_pg));
	EXPECT_EQ(-EINVAL, ll_lease(fd, 7, 0, 0));
	EXPECT_EQ(-EINVAL, ll_setlayout(fd, F_UNLCK, 0, 0, 0x10));
	EXPECT_EQ(-EINVAL, ll_lease(fd, F_WRLCK, ULLONG_MAX, 2));
	ASSERT_EQ(0, ll_getlayout(fd, 0, 0, &lease));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, lease.state);
	EXPECT_EQ(F_RDLCK, lease.type);
	EXPECT_EQ(ll_pg, lease.start);
	EXPECT_EQ(ll_pg, lease.len);
}

LL_TEST(bad_range)
{
	static const struct {
		__u64 start, len;
	} bad[] = {
		{ ULLONG_MAX, 1 },
		{ ULLONG_MAX, 2 },
		{ 4096, ULLONG_MAX },
		{ 1ULL << 63, 0 },
		{ 1ULL << 63, 1 },
		{ LLONG_MAX, 2 },
	};
	int fd = open(self->path, O_RDWR);
	struct layout_lease lease;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EINVAL, ll_lease(fd, F_RDLCK, bad[i].start,
					    bad[i].len))
			TH_LOG("range %u", i);
		EXPECT_EQ(-EINVAL, ll_lease(fd, F_UNLCK, bad[i].start,
					    bad[i].len))
			TH_LOG("range %u", i);
		EXPECT_EQ(-EINVAL, ll_getlayout(fd, bad[i].start, bad[i].len,
						&lease))
			TH_LOG("range %u", i);
	}
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
}

LL_TEST(bad_pointer)
{
	int fd = open(self->path, O_RDWR);
	char *map = mmap(NULL, 2 * ll_pg, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct layout_lease *half = (void *)(map + ll_pg -
					     sizeof(*half) / 2);
	struct layout_lease *whole = (void *)map;

	ASSERT_NE(MAP_FAILED, map);
	half->size = sizeof(*half);
	ASSERT_EQ(0, munmap(map + ll_pg, ll_pg));
	EXPECT_EQ(-EFAULT, set_raw(fd, NULL));
	EXPECT_EQ(-EFAULT, get_raw(fd, NULL));
	EXPECT_EQ(-EFAULT, set_raw(fd, map + ll_pg));
	EXPECT_EQ(-EFAULT, set_raw(fd, half));
	EXPECT_EQ(-EFAULT, get_raw(fd, half));

	/* F_GETLAYOUT needs memory that it can write. */
	*whole = request(F_UNLCK);
	ASSERT_EQ(0, mprotect(map, ll_pg, PROT_READ));
	EXPECT_EQ(-EFAULT, get_raw(fd, whole));
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
}

LL_TEST(bad_fd)
{
	int path_fd = open(self->path, O_PATH);

	ASSERT_LE(0, path_fd);
	EXPECT_EQ(-EBADF, ll_lease(-1, F_RDLCK, 0, 0));
	EXPECT_EQ(-EBADF, ll_lease(9999, F_RDLCK, 0, 0));
	EXPECT_EQ(-EBADF, ll_lease(path_fd, F_RDLCK, 0, 0));
	EXPECT_EQ(-EBADF, ll_state(path_fd));
}

LL_TEST(not_a_regular_file)
{
	int fds[5], pipe_fds[2];
	unsigned int i;

	fds[0] = open(getenv("DAX1"), O_RDONLY | O_DIRECTORY);
	fds[1] = open("/dev/null", O_RDWR);
	fds[2] = socket(AF_UNIX, SOCK_STREAM, 0);
	fds[3] = eventfd(0, 0);
	ASSERT_EQ(0, pipe(pipe_fds));
	fds[4] = pipe_fds[1];
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		ASSERT_LE(0, fds[i]);
		EXPECT_EQ(-EINVAL, ll_lease(fds[i], F_RDLCK, 0, 0))
			TH_LOG("file %u", i);
		EXPECT_EQ(-EINVAL, ll_unlock(fds[i])) TH_LOG("file %u", i);
		EXPECT_EQ(-EINVAL, ll_state(fds[i])) TH_LOG("file %u", i);
		EXPECT_EQ(-1, fcntl(fds[i], F_SETLEASE, F_LAYOUT | F_RDLCK))
			TH_LOG("file %u", i);
		EXPECT_EQ(EINVAL, errno) TH_LOG("file %u", i);
	}
}

LL_TEST(not_dax)
{
	int fd = memfd_create("layout_lease", 0);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ll_fill(fd, 1, 0));
	EXPECT_EQ(-EOPNOTSUPP, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(-EOPNOTSUPP, ll_lease(fd, F_WRLCK, 0, 4096));
	EXPECT_EQ(-1, fcntl(fd, F_SETLEASE, F_LAYOUT | F_RDLCK));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
}

LL_TEST(exclusive_needs_write_access)
{
	int fd = open(self->path, O_RDONLY);

	EXPECT_EQ(-EACCES, ll_lease(fd, F_WRLCK, 0, 0));
	EXPECT_EQ(-1, fcntl(fd, F_SETLEASE, F_LAYOUT | F_WRLCK));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(-EACCES, ll_lease(fd, F_WRLCK, 0, 0));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_state(fd));
}

LL_TEST(needs_owner_or_cap_lease)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, fchmod(fd, 0666));
	EXPECT_EQ(-EACCES, unprivileged(fd, lease_shared));
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));

	/* The owner may, and so may CAP_LEASE. */
	ASSERT_EQ(0, fchown(fd, 65534, 65534));
	EXPECT_EQ(0, unprivileged(fd, lease_shared));
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
}

LL_TEST(seize_needs_cap_sys_admin)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, fchown(fd, 65534, 65534));
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_LEASE, self->path, 0, 0,
			   F_RDLCK));
	EXPECT_EQ(-EPERM, unprivileged(fd, seize));
	EXPECT_EQ(-EPERM, unprivileged(fd, seize_filesystem));
	EXPECT_EQ(-EINVAL, ll_setlayout(fd, F_UNLCK, 0, 1,
					LAYOUT_LEASE_SEIZE_FS));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED,
		  ll_do(self->helper, LL_OP_STATE, "", 0, 0, 0));
	EXPECT_EQ(0, seize(fd));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED,
		  ll_do(self->helper, LL_OP_STATE, "", 0, 0, 0));
}

LL_TEST(leases_disabled)
{
	static const char sysctl[] = "/proc/sys/fs/leases-enable";
	int fd = open(self->path, O_RDWR);
	int ret;

	ASSERT_EQ(0, ll_write_str(sysctl, "0"));
	ret = ll_lease(fd, F_RDLCK, 0, 0);
	ASSERT_EQ(0, ll_write_str(sysctl, "1"));
	EXPECT_EQ(-EINVAL, ret);
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
}

LL_TEST(conflict)
{
	int fd = open(self->path, O_RDWR);

	ASSERT_EQ(0, ll_do(self->helper, LL_OP_LEASE, self->path, 0, ll_pg,
			   F_WRLCK));
	EXPECT_EQ(-EAGAIN, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(-EAGAIN, ll_lease(fd, F_WRLCK, ll_pg - 1, 1));
	EXPECT_EQ(-1, fcntl(fd, F_SETLEASE, F_LAYOUT | F_RDLCK));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
	EXPECT_EQ(1, ll_proc_locks(fd));
}

LL_TEST(bad_setlease_spelling)
{
	static const int args[] = { F_LAYOUT | 3, F_LAYOUT | 4,
				    F_LAYOUT | F_UNLCK | 32, F_LAYOUT | 64 };
	int fd = open(self->path, O_RDWR);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(args); i++) {
		EXPECT_EQ(-1, fcntl(fd, F_SETLEASE, args[i]))
			TH_LOG("argument %d", args[i]);
		EXPECT_EQ(EINVAL, errno) TH_LOG("argument %d", args[i]);
	}
	EXPECT_EQ(-1, fcntl(9999, F_SETLEASE, F_LAYOUT | F_RDLCK));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
}

LL_TEST(bad_grace)
{
	static const char sysctl[] = LL_GRACE_SYSCTL;

	EXPECT_EQ(-EINVAL, ll_write_str(sysctl, "-2"));
	EXPECT_EQ(-EINVAL, ll_write_str(sysctl, "soon"));
	EXPECT_EQ(-EINVAL, ll_write_str(sysctl, "99999999999"));
	EXPECT_EQ(LL_GRACE, ll_read_long(sysctl, -9));
}

static int set_no_grace(int fd)
{
	return ll_write_long(LL_GRACE_SYSCTL, 0);
}

/* Root of a user namespace is nobody here. */
static int set_no_grace_in_namespace(int fd)
{
	if (syscall(__NR_unshare, CLONE_NEWUSER))
		return 0;
	return ll_write_long(LL_GRACE_SYSCTL, 0);
}

LL_TEST(grace_needs_root)
{
	EXPECT_EQ(-EACCES, unprivileged(-1, set_no_grace));
	EXPECT_EQ(-EACCES, unprivileged(-1, set_no_grace_in_namespace));
	EXPECT_EQ(LL_GRACE, ll_read_long(LL_GRACE_SYSCTL, -9));
}

/*
 * A mount that is read-only does not keep a reader from a lease, and gives no
 * more than a descriptor for reading does.
 */
LL_TEST(read_only_mount)
{
	char dir[] = LL_MOUNT_POINT, path[PATH_MAX];
	int fd;

	ASSERT_EQ(0, ll_mount_point(dir, path, self->path));
	ASSERT_EQ(0, ll_sh("mount --bind $DAX1 %s && "
			   "mount -o remount,bind,ro %s", dir, dir));
	EXPECT_EQ(-1, open(path, O_RDWR));
	EXPECT_EQ(EROFS, errno);
	fd = open(path, O_RDONLY);
	EXPECT_EQ(-EACCES, ll_lease(fd, F_WRLCK, 0, 0));
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	/* And it is broken by who writes elsewhere. */
	EXPECT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
	EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(fd));
	close(fd);
	EXPECT_EQ(0, ll_sh("umount %s", dir));
	rmdir(dir);
}

static int lease_unprivileged(const char *path)
{
	int fd = open(path, O_RDONLY);
	int ret = unprivileged(fd, lease_shared);

	close(fd);
	return ret;
}

static void enter_user_namespace(int sock, void *arg)
{
	ll_put(sock, unshare(CLONE_NEWUSER) ? -errno : 0);
	ll_get(sock, INT_MAX);
}

/* $DAX1 on dir, where files of user 0 belong to 65534, and none to others. */
static int mount_idmapped(const char *dir)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP };
	struct ll_proc p;
	char path[64];
	int ret, tree;

	ret = ll_proc_start(&p, enter_user_namespace, NULL);
	if (ret)
		return ret;
	ret = ll_get(p.sock, LL_SOON_MS) ?:
	      ll_sh("echo 0 65534 1 >/proc/%d/uid_map && "
		    "echo 0 65534 1 >/proc/%d/gid_map", p.pid, p.pid);
	snprintf(path, sizeof(path), "/proc/%d/ns/user", p.pid);
	attr.userns_fd = open(path, O_RDONLY);
	tree = syscall(SYS_open_tree, AT_FDCWD, getenv("DAX1"),
		       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (!ret && (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr,
			     sizeof(attr)) ||
		     syscall(SYS_move_mount, tree, "", AT_FDCWD, dir,
			     MOVE_MOUNT_F_EMPTY_PATH)))
		ret = -errno;
	close(tree);
	close(attr.userns_fd);
	ll_proc_stop(&p);
	return ret;
}

/* Who the owner is depends on the mount. */
LL_TEST(idmapped_mount)
{
	char dir[] = LL_MOUNT_POINT, path[PATH_MAX];

	ASSERT_EQ(0, ll_mount_point(dir, path, self->path));
	/* Root may not open what has no owner there. */
	ASSERT_EQ(0, chmod(self->path, 0644));
	ASSERT_EQ(0, mount_idmapped(dir));
	EXPECT_EQ(-EACCES, lease_unprivileged(self->path));
	EXPECT_EQ(0, lease_unprivileged(path));
	/* What is 65534 on the filesystem has no id there. */
	ASSERT_EQ(0, chown(self->path, 65534, 65534));
	EXPECT_EQ(0, lease_unprivileged(self->path));
	EXPECT_EQ(-EACCES, lease_unprivileged(path));
	EXPECT_EQ(0, ll_sh("umount %s", dir));
	rmdir(dir);
}

/*
 * fcntl(fd, cmd, arg) is EPERM from now on, for all arguments with these bits.
 * What is in memory a filter does not see.
 */
static int forbid(unsigned int cmd, unsigned int bits)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_fcntl, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, cmd, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, args[2])),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, bits),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, bits, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog filter = { ARRAY_SIZE(code), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		return -errno;
	return 0;
}

static int forbid_both(void)
{
	return forbid(F_SETLAYOUT, 0) ?: forbid(F_SETLEASE, F_LAYOUT);
}

static int filter_the_command(int fd)
{
	return forbid(F_SETLAYOUT, 0) ?: lease_shared(fd);
}

static int filter_the_command_only(int fd)
{
	return forbid(F_SETLAYOUT, 0) ?: lease_shared_old(fd);
}

static int filter_both(int fd)
{
	return forbid_both() ?: lease_shared_old(fd);
}

static int filter_both_and_lease(int fd)
{
	int ret = forbid_both();

	if (!ret && fcntl(fd, F_SETLEASE, F_RDLCK))
		ret = -errno;
	return ret;
}

/* A filter has to look for both spellings. */
LL_TEST(seccomp)
{
	int fd = open(self->path, O_RDONLY);

	ASSERT_EQ(0, fchown(fd, 65534, 65534));
	if (prctl(PR_GET_SECCOMP) < 0)
		SKIP(return, "no CONFIG_SECCOMP");
	EXPECT_EQ(-EPERM, unprivileged(fd, filter_the_command));
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_state(fd));
	EXPECT_EQ(0, unprivileged(fd, filter_the_command_only));
	EXPECT_EQ(-EPERM, unprivileged(fd, filter_both));
	/* Other leases are let through. */
	EXPECT_EQ(0, unprivileged(fd, filter_both_and_lease));
}

#define SMACKFS		"/sys/fs/smackfs"

/* A user whose processes have a label. */
static void labelled(int sock, void *arg)
{
	int fd = -EPERM;

	if (!ll_write_str("/proc/self/attr/current", "Holder") &&
	    !ll_drop_privileges())
		fd = open(arg, O_RDONLY);
	ll_put(sock, fd < 0 ? fd : 0);
	while (!ll_get(sock, INT_MAX)) {
		ll_put(sock, lease_shared(fd));
		ll_put(sock, lease_shared_old(fd));
		ll_put(sock, ll_state(fd));
		ll_put(sock, ll_unlock(fd));
	}
}

/*
 * A security module that has a permission of its own for locks is asked for it,
 * as for other leases. To give up is no lock.
 */
LL_TEST(lsm)
{
	struct ll_proc p;

	if (access(SMACKFS, F_OK))
		SKIP(return, "no CONFIG_SECURITY_SMACK, or not in lsm=");
	ASSERT_EQ(0, ll_sh("mountpoint -q " SMACKFS
			   " || mount -t smackfs smackfs " SMACKFS));
	ASSERT_EQ(0, chown(self->path, 65534, 65534));
	ASSERT_EQ(0, setxattr(self->path, "security.SMACK64", "Leased", 6, 0));
	ASSERT_EQ(0, ll_write_str(SMACKFS "/load2", "Holder Leased rl"));
	ASSERT_EQ(0, ll_proc_start(&p, labelled, (void *)self->path));
	ASSERT_EQ(0, ll_get(p.sock, LL_SOON_MS));

	ASSERT_EQ(0, ll_put(p.sock, 0));
	EXPECT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(LAYOUT_LEASE_GRANTED, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(0, ll_get(p.sock, LL_SOON_MS));

	ASSERT_EQ(0, ll_write_str(SMACKFS "/load2", "Holder Leased r"));
	ASSERT_EQ(0, ll_put(p.sock, 0));
	EXPECT_EQ(-EACCES, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(-EACCES, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(LAYOUT_LEASE_NONE, ll_get(p.sock, LL_SOON_MS));
	EXPECT_EQ(0, ll_get(p.sock, LL_SOON_MS));
	ll_proc_stop(&p);
	EXPECT_EQ(0, ll_write_str(SMACKFS "/load2", "Holder Leased -"));
}

TEST_HARNESS_MAIN
