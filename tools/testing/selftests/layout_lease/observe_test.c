// SPDX-License-Identifier: GPL-2.0
/*
 * An administrator whose truncate waits finds out why: what /proc/layout_leases,
 * lslocks, fdinfo, tracepoints and the log say before, during and after a break,
 * to anybody.
 */
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "layout_lease_fixture.h"

#define LEN		(8 * ll_pg)
#define TRACING		"/sys/kernel/tracing/instances/layout_lease"

#define UNPRIVILEGED	"setpriv --reuid=65534 --regid=65534 --clear-groups " \
			"--inh-caps=-all "

/* A line of /proc/layout_leases. */
struct line {
	int pid;
	char comm[32], file[48], kind[16], state[16], start[24], last[24];
	unsigned long attached;
	char left[24];
};

/* The name of a file there and in /proc/locks. */
static void file_name(char *name, size_t size, const struct stat *st)
{
	snprintf(name, size, "%02x:%02x:%llu", major(st->st_dev),
		 minor(st->st_dev), (unsigned long long)st->st_ino);
}

/*
 * The lines of one file, as a user without privileges sees them; how many there
 * are, the first one in *line.
 */
static int lines_of(const struct stat *st, struct line *line)
{
	char text[256], name[48];
	struct line l;
	int n = 0;
	FILE *f;

	file_name(name, sizeof(name), st);
	f = popen(UNPRIVILEGED "cat /proc/layout_leases", "r");
	if (!f)
		return -errno;
	while (fgets(text, sizeof(text), f)) {
		if (sscanf(text, "%d %31s %47s %15s %15s %23s %23s %lu %23s",
			   &l.pid, l.comm, l.file, l.kind, l.state, l.start,
			   l.last, &l.attached, l.left) != 9)
			continue;
		if (strcmp(l.file, name))
			continue;
		if (!n++)
			*line = l;
	}
	return pclose(f) ? -EIO : n;
}

/* Are both in a line of the output of the command? */
static bool says(const char *cmd, const char *word1, const char *word2)
{
	char text[512];
	bool found = false;
	FILE *f = popen(cmd, "r");

	while (f && fgets(text, sizeof(text), f))
		found |= strstr(text, word1) && strstr(text, word2);
	if (f)
		pclose(f);
	return found;
}

static bool fdinfo_shows(int fd)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "cat /proc/%d/fdinfo/%d", getpid(), fd);
	return says(cmd, "lock:", " LAYOUT ");
}

/* What /proc/locks says of a file between LAYOUT and the pid. */
static bool locks_show(const struct stat *st, const char *state)
{
	char words[64], name[48];

	file_name(name, sizeof(name), st);
	snprintf(words, sizeof(words), " LAYOUT %s %d %s ", state, getpid(),
		 name);
	return says("tr -s ' ' </proc/locks", words, "EOF");
}

LL_TEST(before_during_and_after)
{
	struct line line = {};
	struct ll_result res;
	struct stat st;
	struct held h;
	char pid[16];

	snprintf(pid, sizeof(pid), " %d ", getpid());
	ASSERT_EQ(0, stat(self->path, &st));
	EXPECT_EQ(0, lines_of(&st, &line));

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(1, lines_of(&st, &line));
	EXPECT_EQ(getpid(), line.pid);
	EXPECT_STREQ("observe_test", line.comm);
	EXPECT_STREQ("shared", line.kind);
	EXPECT_STREQ("granted", line.state);
	EXPECT_STREQ("0", line.start);
	EXPECT_STREQ("EOF", line.last);
	EXPECT_EQ(1, line.attached);
	EXPECT_STREQ("-", line.left);
	EXPECT_TRUE(locks_show(&st, "ACTIVE READ"));

	ll_send(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0);
	ASSERT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	ASSERT_EQ(1, lines_of(&st, &line));
	EXPECT_EQ(getpid(), line.pid);
	EXPECT_STREQ("breaking", line.state);
	EXPECT_EQ(1, line.attached);
	EXPECT_LT(0, atol(line.left));
	EXPECT_GE(LL_GRACE * 1000, atol(line.left));
	EXPECT_TRUE(fdinfo_shows(h.fd));
	EXPECT_TRUE(locks_show(&st, "BREAKING UNLCK"));
	EXPECT_TRUE(says(UNPRIVILEGED "lslocks -o COMMAND,PID,TYPE,MODE",
			 "LAYOUT", pid));

	ASSERT_EQ(0, ibv_dereg_mr(h.mr));
	ASSERT_EQ(0, ll_done(self->helper, LL_SOON_MS, &res));
	ASSERT_EQ(1, lines_of(&st, &line));
	EXPECT_STREQ("revoked", line.state);
	EXPECT_EQ(0, line.attached);
	EXPECT_STREQ("-", line.left);
	EXPECT_TRUE(locks_show(&st, "ACTIVE READ"));

	ASSERT_EQ(0, ll_unlock(h.fd));
	EXPECT_EQ(0, lines_of(&st, &line));
}

/* What no descriptor and no name leads to any more. */
LL_TEST(closed_and_unlinked)
{
	struct line line = {};
	struct stat st;
	struct held h;

	ASSERT_EQ(0, stat(self->path, &st));
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, close(h.fd));
	ASSERT_EQ(0, munmap(h.map, LEN));
	ASSERT_EQ(0, unlink(self->path));
	ASSERT_EQ(1, lines_of(&st, &line));
	EXPECT_EQ(getpid(), line.pid);
	EXPECT_EQ(1, line.attached);

	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
	EXPECT_EQ(0, lines_of(&st, &line));
}

/* A lease in pieces, and a second holder. */
LL_TEST(many_lines)
{
	struct line line = {};
	int fd = open(self->path, O_RDWR), i;
	struct stat st;

	ASSERT_EQ(0, fstat(fd, &st));
	for (i = 0; i < 1000; i++)
		ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 2 * i * ll_pg, ll_pg));
	EXPECT_EQ(1000, lines_of(&st, &line));
	EXPECT_STREQ("4095", line.last);
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_LEASE, self->path, ll_pg, 1,
			   F_WRLCK));
	EXPECT_EQ(1001, lines_of(&st, &line));
	ASSERT_EQ(0, ll_unlock(fd));
	ASSERT_EQ(1, lines_of(&st, &line));
	EXPECT_EQ(self->helper->pid, line.pid);
	EXPECT_STREQ("exclusive", line.kind);
	EXPECT_EQ(0, ll_do(self->helper, LL_OP_CLOSE, "", 0, 0, 0));
}

/* Holders of other pid namespaces are not shown. */
LL_TEST(other_pid_namespace)
{
	int fd = open(self->path, O_RDWR);
	char lines[16];

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_sh_line(lines, sizeof(lines),
				"grep -c . /proc/layout_leases"));
	EXPECT_LT(1, atoi(lines));
	ASSERT_EQ(0, ll_sh_line(lines, sizeof(lines),
				"unshare --pid --fork --mount-proc "
				"grep -c . /proc/layout_leases"));
	EXPECT_EQ(1, atoi(lines));
}

/* Those whom /proc hides are shown, as in /proc/locks. */
LL_TEST(hidden_process)
{
	char dir[] = LL_MOUNT_POINT, path[PATH_MAX];
	int fd = open(self->path, O_RDWR), pid = getpid();

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_mount_point(dir, path, self->path));
	ASSERT_EQ(0, ll_sh("mount -t proc -o hidepid=invisible proc %s", dir));
	EXPECT_EQ(1, ll_sh(UNPRIVILEGED "test -e %s/%d", dir, pid));
	EXPECT_EQ(0, ll_sh(UNPRIVILEGED "grep -Eq '^ *%d +observe_test ' "
			   "%s/layout_leases", pid, dir));
	EXPECT_EQ(0, ll_sh(UNPRIVILEGED "grep -q ' LAYOUT .* %d ' %s/locks",
			   pid, dir));
	EXPECT_EQ(0, ll_sh("umount %s", dir));
	rmdir(dir);
	EXPECT_EQ(0, ll_unlock(fd));
}

/* A name that looks like a line of its own. */
LL_TEST(name_is_escaped)
{
	char before[] = "observe_test", lines[16];
	struct line line = {};
	int fd = open(self->path, O_RDWR);
	struct stat st;

	ASSERT_EQ(0, fstat(fd, &st));
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	ASSERT_EQ(0, ll_sh_line(lines, sizeof(lines),
				"grep -c . /proc/layout_leases"));
	ASSERT_EQ(0, prctl(PR_SET_NAME, "a\n1 b\tc\\d"));
	EXPECT_EQ(1, lines_of(&st, &line));
	EXPECT_EQ(getpid(), line.pid);
	EXPECT_STREQ("a\\0121\\040b\\011c\\134d", line.comm);
	EXPECT_EQ(0, ll_sh("test $(grep -c . /proc/layout_leases) = %s", lines));
	ASSERT_EQ(0, prctl(PR_SET_NAME, before));
	EXPECT_EQ(0, ll_unlock(fd));
}

/* How many lines of the log have the word. */
static int logged(const char *word)
{
	char n[16];

	return ll_sh_line(n, sizeof(n), "dmesg | grep -cF '%s'", word) < 0 ?
		-1 : atoi(n);
}

/* Nobody fills the log. */
LL_TEST(log_is_limited)
{
	enum { HOLDERS = 100, MOST = 30 };
	struct held h[HOLDERS];
	char pid[32];
	int i, lines;

	snprintf(pid, sizeof(pid), "observe_test (%d)", getpid());
	ll_set_grace(0);
	for (i = 0; i < HOLDERS; i++) {
		ASSERT_EQ(0, ll_hold(&h[i], self->rdma, self->path, ll_pg));
		/* It is the open file that has a lease. */
		ASSERT_EQ(0, munmap(h[i].map, ll_pg));
	}
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
	lines = logged(pid);
	EXPECT_LT(0, lines);
	EXPECT_GE(MOST, lines);
	for (i = 0; i < HOLDERS; i++)
		EXPECT_EQ(LAYOUT_LEASE_REVOKED, ll_state(h[i].fd));
	for (i = 0; i < HOLDERS; i++)
		EXPECT_EQ(0, ibv_dereg_mr(h[i].mr));
	/* The kernel's limit is one for each 5 s. Others want to be in the log, too. */
	sleep(5);
}

/* The log names a holder from whom memory was taken, and only such a one. */
LL_TEST(log)
{
	char name[48], pid[32];
	struct ll_result res;
	struct stat st;
	struct held h;

	snprintf(pid, sizeof(pid), "observe_test (%d)", getpid());
	ASSERT_EQ(0, stat(self->path, &st));
	file_name(name, sizeof(name), &st);

	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ll_send(self->helper, LL_OP_TRUNCATE, self->path, ll_pg, 0, 0);
	ASSERT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	ASSERT_EQ(0, ibv_dereg_mr(h.mr));
	ASSERT_EQ(0, ll_done(self->helper, LL_SOON_MS, &res));
	EXPECT_FALSE(says("dmesg", pid, name));

	ASSERT_EQ(0, ll_lease(h.fd, F_RDLCK, 0, 0));
	h.mr = ll_reg(self->rdma, h.map, ll_pg, LL_ACCESS);
	ASSERT_NE(NULL, h.mr);
	ll_set_grace(0);
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
	EXPECT_TRUE(says("dmesg", pid, name));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));
}

#define KMSG		"dd if=/dev/kmsg bs=8192 iflag=nonblock 2>/dev/null"

/* It shows the name of the process to those who may read it, in one line. */
LL_TEST(name_in_the_log)
{
	static const char restricted[] = "/proc/sys/kernel/dmesg_restrict";
	char before[] = "observe_test", pid[16];
	long saved = ll_read_long(restricted, 0);
	struct held h;

	snprintf(pid, sizeof(pid), "(%d)", getpid());
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ASSERT_EQ(0, prctl(PR_SET_NAME, "a\n<0>b"));
	ll_set_grace(0);
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
	EXPECT_EQ(0, prctl(PR_SET_NAME, before));
	EXPECT_TRUE(says(KMSG, "a\\x0a<0>b ", pid));
	EXPECT_EQ(0, ibv_dereg_mr(h.mr));

	ASSERT_EQ(0, ll_write_long(restricted, 0));
	EXPECT_TRUE(says(UNPRIVILEGED KMSG, "a\\x0a<0>b ", pid));
	ASSERT_EQ(0, ll_write_long(restricted, 1));
	EXPECT_FALSE(says(UNPRIVILEGED KMSG, "a\\x0a<0>b ", pid));
	EXPECT_EQ(0, ll_write_long(restricted, saved));
}

static int start_tracing(void)
{
	return ll_sh("mkdir -p " TRACING " && echo > " TRACING "/trace && "
		     "echo 1 > " TRACING "/events/layout_lease/enable");
}

static int stop_tracing(void)
{
	return ll_sh("echo 0 > " TRACING "/events/enable; rmdir " TRACING);
}

/* One line of the trace has all of the words. */
static bool traced(const char *event, const char *ino, const char *words)
{
	char text[512], line[1024];
	bool found = false;
	FILE *f = fopen(TRACING "/trace", "re");

	snprintf(text, sizeof(text), " %s: ", event);
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = ' ';
		found |= strstr(line, text) && strstr(line, ino) &&
			 strstr(line, words);
	}
	if (f)
		fclose(f);
	return found;
}

LL_TEST(tracepoints)
{
	char ino[32], hex[32], words[128];
	struct ll_result res;
	struct stat st;
	struct held h;
	int fd;

	if (access("/sys/kernel/tracing/events/layout_lease", F_OK))
		SKIP(return, "the kernel has no tracepoints of layout leases");
	ASSERT_EQ(0, stat(self->path, &st));
	snprintf(ino, sizeof(ino), " ino=%llu ", (unsigned long long)st.st_ino);
	snprintf(hex, sizeof(hex), " ino=0x%llx ",
		 (unsigned long long)st.st_ino);
	ASSERT_EQ(0, start_tracing());
	ASSERT_EQ(0, ll_write_str(TRACING "/events/filelock/enable", "1"));

	fd = open(self->path, O_RDONLY);
	ASSERT_EQ(-EACCES, ll_lease(fd, F_WRLCK, 0, 0));
	ASSERT_EQ(0, ll_hold(&h, self->rdma, self->path, LEN));
	ll_send(self->helper, LL_OP_PUNCH, self->path, 0, LEN, 0);
	ASSERT_EQ(0, ll_signal(SIGRTMIN, LL_SOON_MS, NULL));
	/* The signal comes first: the breaker may not wait yet. */
	EXPECT_NOT_DONE(self->helper);
	ASSERT_EQ(0, ibv_dereg_mr(h.mr));
	ASSERT_EQ(0, ll_done(self->helper, LL_SOON_MS, &res));

	ASSERT_EQ(0, ll_lease(h.fd, F_RDLCK, 0, 0));
	h.mr = ll_reg(self->rdma, h.map, LEN, LL_ACCESS);
	ASSERT_NE(NULL, h.mr);
	ll_set_grace(0);
	ASSERT_EQ(0, ll_do(self->helper, LL_OP_TRUNCATE, self->path, 0, 0, 0));
	ASSERT_EQ(0, ibv_dereg_mr(h.mr));
	ASSERT_EQ(0, ll_unlock(h.fd));
	ASSERT_EQ(0, ll_lease(h.fd, F_WRLCK, 0, 0));
	ASSERT_EQ(0, munmap(h.map, LEN));
	ASSERT_EQ(0, close(h.fd));
	ASSERT_TRUE(ll_gone(fd));

	ASSERT_EQ(0, ll_write_str(TRACING "/events/enable", "0"));
	EXPECT_TRUE(traced("layout_lease_deny", ino, "type=exclusive start=0 len=0 flags=0x0 error=-13"));
	EXPECT_TRUE(traced("layout_lease_grant", ino, "type=shared start=0 len=0 flags=0x0 error=0"));
	snprintf(words, sizeof(words), "start=0 last=%zu error=0", LEN - 1);
	EXPECT_TRUE(traced("layout_lease_attach", ino, words));
	EXPECT_TRUE(traced("layout_lease_break", ino, "start=0 last=2097151 flags= pending=1"));
	EXPECT_TRUE(traced("layout_lease_break_waited", ino, "error=0"));
	snprintf(words, sizeof(words), "holder=%d signal=%d reason=break",
		 getpid(), SIGRTMIN);
	EXPECT_TRUE(traced("layout_lease_signal", ino, words));
	snprintf(words, sizeof(words), "regions=1 pages=%zu us=", LEN / ll_pg);
	EXPECT_TRUE(traced("layout_lease_revoke", ino, words));
	snprintf(words, sizeof(words), "holder=%d signal=%d reason=revoked",
		 getpid(), SIGRTMIN);
	EXPECT_TRUE(traced("layout_lease_signal", ino, words));
	EXPECT_TRUE(traced("layout_lease_release", ino, "error=0"));
	EXPECT_TRUE(traced("layout_lease_close", ino, ""));
	EXPECT_TRUE(traced("generic_add_lease", hex, "fl_flags=FL_LAYOUT fl_type=F_RDLCK"));
	EXPECT_TRUE(traced("generic_delete_lease", hex, "fl_flags=FL_LAYOUT"));
	EXPECT_EQ(0, ll_sh("rmdir " TRACING));
}

/* " ino=N ", as events have it. */
static void name_of(int fd, char ino[32])
{
	struct stat st = {};

	fstat(fd, &st);
	snprintf(ino, 32, " ino=%llu ", (unsigned long long)st.st_ino);
}

#define REFUSE	"/sys/kernel/tracing/events/layout_lease/layout_lease_refuse"

/*
 * EOPNOTSUPP has several reasons, and it says which. Two of them have no test: "driver",
 * since both software devices can take a region back, and pin no memory of a program
 * otherwise; and "filesystem", since of those with DAX and without layout leases (erofs,
 * virtiofs) the kernel of the tests has none.
 */
LL_TEST(refusals)
{
	int fd = open(self->path, O_RDWR), memfd = memfd_create("not-dax", 0);
	char ino[32], not_dax[32], copy[PATH_MAX];
	char *map, *private;

	if (access(REFUSE, F_OK))
		SKIP(return, "the kernel has no such tracepoint");
	name_of(fd, ino);
	name_of(memfd, not_dax);
	map = ll_map(fd, 0, LEN, PROT_READ | PROT_WRITE);
	private = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)map);
	ASSERT_NE(MAP_FAILED, (void *)private);
	ASSERT_EQ(0, start_tracing());

	EXPECT_EQ(-EOPNOTSUPP, ll_lease(memfd, F_RDLCK, 0, 0));
	EXPECT_TRUE(traced("layout_lease_refuse", not_dax, "why=not-dax"));

	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
	EXPECT_TRUE(traced("layout_lease_refuse", ino, "why=no-lease"));

	ASSERT_EQ(0, ll_other_lease(self->helper, self->path, F_RDLCK, 0, 0));
	EXPECT_FALSE(traced("layout_lease_refuse", ino, "why=other-process"));
	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, map, LEN, LL_ACCESS));
	EXPECT_TRUE(traced("layout_lease_refuse", ino, "why=other-process"));

	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(EOPNOTSUPP, ll_reg_errno(self->rdma, private, LEN, LL_ACCESS));
	EXPECT_TRUE(traced("layout_lease_refuse", ino, "why=private-mapping"));

	/* No event for what succeeds, or for an error that tells by itself. */
	EXPECT_FALSE(traced("layout_lease_refuse", ino, "why=driver"));
	EXPECT_FALSE(traced("layout_lease_refuse", ino, "why=blocks-move"));
	if (ll_is_xfs()) {
		ASSERT_EQ(0, ll_unlock(fd));
		ASSERT_EQ(0, ll_other_unlock(self->helper));
		snprintf(copy, sizeof(copy), "%.4000s.copy", self->path);
		ASSERT_EQ(0, ll_clone(self->path, copy, 0, 0));
		EXPECT_EQ(-EOPNOTSUPP, ll_lease(fd, F_RDLCK, 0, 0));
		EXPECT_TRUE(traced("layout_lease_refuse", ino, "why=blocks-move"));
		unlink(copy);
	}
	EXPECT_EQ(0, stop_tracing());
}

/* The module is gone, and the one who loads modules does not. */
LL_TEST(refused_without_module)
{
	static const char modprobe[] = "/proc/sys/kernel/modprobe";
	int fd = open(self->path, O_RDWR);
	char before[PATH_MAX], ino[32];

	if (access(REFUSE, F_OK))
		SKIP(return, "the kernel has no such tracepoint");
	if (ll_module_settle(fd) < 0)
		SKIP(return, "the module is built in");
	name_of(fd, ino);
	ASSERT_EQ(0, ll_sh_line(before, sizeof(before), "cat %s", modprobe));
	ASSERT_EQ(0, start_tracing());
	EXPECT_EQ(0, ll_sh("modprobe -r " LL_MODULE));
	EXPECT_EQ(0, ll_write_str(modprobe, "/bin/false"));
	EXPECT_EQ(-EOPNOTSUPP, ll_lease(fd, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ll_write_str(modprobe, before));
	EXPECT_TRUE(traced("layout_lease_refuse", ino, "why=no-module"));
	EXPECT_EQ(0, stop_tracing());
	EXPECT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
}

/*
 * What was as it must be when the region was attached is not any more when its pages are
 * pinned: here the filesystem is shut down between the two. Of two pieces, the first one
 * waits for a page that nobody brings.
 */
LL_TEST(refused_page)
{
	struct ll_registration b = {
		.rdma = self->rdma, .len = 2 * LEN,
		.access = IBV_ACCESS_REMOTE_READ, .error = -1,
	};
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	char dev[64], path[PATH_MAX], ino[32];
	struct uffdio_api api = { .api = UFFD_API };
	struct pollfd pfd = { .events = POLLIN };
	const char *dir = getenv("DAX2");
	struct uffdio_zeropage zero = {};
	pthread_t thread;
	unsigned int i;
	int fd;

	if (access(REFUSE, F_OK))
		SKIP(return, "the kernel has no such tracepoint");
	if (!dir)
		SKIP(return, "DAX2 names no DAX filesystem");
	pfd.fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (pfd.fd < 0)
		SKIP(return, "userfaultfd: %s", strerror(errno));
	ASSERT_EQ(0, ioctl(pfd.fd, UFFDIO_API, &api));
	ASSERT_EQ(0, ll_source(dev, sizeof(dev), dir));
	ASSERT_EQ(0, ll_mkfile(path, sizeof(path), dir, LL_PAGES, 0));
	fd = open(path, O_RDWR | O_CLOEXEC);
	name_of(fd, ino);
	ASSERT_EQ(0, ll_lease(fd, F_RDLCK, 0, 0));
	b.addr = mmap(NULL, 2 * LEN, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, b.addr);
	ASSERT_EQ(b.addr + LEN, mmap(b.addr + LEN, LEN, PROT_READ,
				     MAP_SHARED | MAP_FIXED, fd, 0));
	/* Its pages are mapped: no page fault has to ask the filesystem. */
	for (i = 0; i < LEN; i += ll_pg)
		*(volatile char *)(b.addr + LEN + i);
	reg.range.start = (uintptr_t)b.addr;
	reg.range.len = LEN;
	ASSERT_EQ(0, ioctl(pfd.fd, UFFDIO_REGISTER, &reg));

	ASSERT_EQ(0, start_tracing());
	ASSERT_EQ(0, pthread_create(&thread, NULL, ll_reg_thread, &b));
	ASSERT_EQ(1, poll(&pfd, 1, LL_SOON_MS));
	EXPECT_EQ(0, ll_sh("xfs_io -x -c shutdown %s", dir));
	zero.range = reg.range;
	ASSERT_EQ(0, ioctl(pfd.fd, UFFDIO_ZEROPAGE, &zero));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(EOPNOTSUPP, b.error);
	EXPECT_TRUE(traced("layout_lease_refuse", ino, "why=page"));
	EXPECT_EQ(0, stop_tracing());

	EXPECT_EQ(0, ll_unlock(fd));
	EXPECT_EQ(0, munmap(b.addr, 2 * LEN));
	EXPECT_EQ(0, close(fd));
	ASSERT_EQ(0, ll_umount(dir));
	ASSERT_EQ(0, ll_new_filesystem(dev, dir));
}

TEST_HARNESS_MAIN
