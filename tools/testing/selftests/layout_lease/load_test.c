// SPDX-License-Identifier: GPL-2.0
/*
 * Load: processes that lease, register, write by RDMA, let go or not, fork and
 * are killed, against others that truncate, punch, collapse, clone, deduplicate,
 * exchange, read, copy and write, on few files of a filesystem that is nearly
 * full. Whoever frees blocks puts them into a file of his own at once, a victim,
 * which nobody else has to do with.
 *
 * Each word on the filesystem tells which file it was written to, so that one
 * look tells whether RDMA ever met a block that the file did not own any more:
 * a victim has its own words only, and a file none of other files.
 *
 * STRESS_TIME is how many seconds, STRESS_SEED repeats the choices of a run.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/fs.h>

#include "layout_lease_change.h"
#include "layout_lease_setup.h"

#define SECONDS		75
#define FILES		3
#define PAGES		640	/* of a file: in two units of breaks */
#define HOLDERS		4
#define BREAKERS	3
#define WORKERS		(HOLDERS + BREAKERS)
#define VICTIMS		4	/* that a breaker keeps */
#define FREE		(6 << 20)	/* bytes that the filesystem has to begin with */
#define MAX_WRITE	4	/* pages */

/* Pages of this file move. */
#define COLLAPSING	0

/* What workers have done, and the first thing that was wrong. */
struct score {
	bool stop, failed;
	char what[256];
	long leases, denied, regions, refused, writes, dead_writes, breaks;
	long clones, dedupes, exchanges, copies, victims, words, killed;
	long done[HOLDERS];	/* by each since it was started */
};

static struct score *score;
static char path[FILES][PATH_MAX];

static bool once_in(unsigned int n)
{
	return ll_dice(n) == 0;
}

#define COUNT(what)	__atomic_fetch_add(&score->what, 1, __ATOMIC_RELAXED)

static bool stopped(void)
{
	return __atomic_load_n(&score->stop, __ATOMIC_RELAXED);
}

static void complain(const char *format, ...)
{
	va_list args;

	if (__atomic_exchange_n(&score->failed, true, __ATOMIC_RELAXED))
		return;
	va_start(args, format);
	vsnprintf(score->what, sizeof(score->what), format, args);
	va_end(args);
}

/*
 * A word: whose it is (32 bits), the page (16), whatever the writer likes (16).
 * An inode number is used again, but with another generation.
 */
static __u32 tag_of(int fd)
{
	struct stat st;
	int generation = 0;

	if (fstat(fd, &st) || ioctl(fd, FS_IOC_GETVERSION, &generation))
		complain("no generation: %s", strerror(errno));
	return (st.st_ino * 0x9e3779b1U ^ generation * 0x85ebca6bU) | 1;
}

static void fill(void *buf, size_t pages, __u32 tag, unsigned int first)
{
	__u64 *word = buf, low = ll_dice(0x10000);
	size_t i, page;

	for (page = 0; page < pages; page++)
		for (i = 0; i < ll_pg / 8; i++)
			*word++ = (__u64)tag << 32 | (first + page) << 16 | low;
}

/* What a file may have. */
enum content {
	WORDS,			/* its own, each in its place */
	MOVED_WORDS,		/* its own, anywhere */
};

static bool is_own(__u64 word, __u32 tag, enum content content, off_t off)
{
	return word >> 32 == tag && (content == MOVED_WORDS ||
				     (word >> 16 & 0xffff) == off / ll_pg);
}

/* A word may be seen while it is written, byte by byte. */
static bool is_foreign(int fd, __u64 word, __u32 tag, enum content content,
		       off_t off)
{
	int i;

	for (i = 0; i < 10; i++) {
		if (!word || is_own(word, tag, content, off))
			return false;
		ll_sleep_ms(5);
		if (pread(fd, &word, sizeof(word), off) != sizeof(word))
			return false;
	}
	fprintf(stderr, "# word %#llx at %#llx, not of %#x\n",
		(unsigned long long)word, (unsigned long long)off, tag);
	return true;
}

/* Does the file have words of its own only, or also zeros? */
static bool is_pure(int fd, __u32 tag, enum content content, bool zeros)
{
	static __u64 buf[16 * 4096 / 8];
	bool pure = true;
	off_t off = 0, at;
	ssize_t n;
	size_t i;

	while (pure && (n = pread(fd, buf, sizeof(buf), off)) > 0) {
		for (i = 0; pure && i < n / sizeof(*buf); i++) {
			at = off + i * sizeof(*buf);
			if (is_own(buf[i], tag, content, at))
				continue;
			pure = zeros ? !is_foreign(fd, buf[i], tag, content, at) :
				false;
		}
		__atomic_fetch_add(&score->words, i, __ATOMIC_RELAXED);
		off += n;
	}
	return pure;
}

static bool file_is_pure(int file, int fd, int like)
{
	return is_pure(fd, tag_of(like), file == COLLAPSING ? MOVED_WORDS : WORDS,
		       true);
}

/* A file that has no name, in the same filesystem. */
static int open_nameless(void)
{
	char name[PATH_MAX];
	int fd;

	snprintf(name, sizeof(name), "%s/victim-XXXXXX", getenv("DAX2"));
	fd = mkstemp(name);
	if (fd >= 0)
		unlink(name);
	return fd;
}

/* Victims of one breaker. */
static int victim[VICTIMS];
static unsigned int victims;

static void check_victim(int fd)
{
	if (!is_pure(fd, tag_of(fd), WORDS, false))
		complain("a file that nobody else writes to has changed");
	COUNT(victims);
}

static void keep_victim(int fd)
{
	int *old = &victim[victims++ % VICTIMS];

	check_victim(fd);
	if (victims > VICTIMS) {
		check_victim(*old);
		close(*old);
	}
	*old = fd;
}

/* Pages of words of @tag, as far as there is room. */
static bool write_words(int fd, __u32 tag, unsigned int first, unsigned int pages)
{
	static char buf[16 * 4096];
	unsigned int page, n;

	for (page = first; page < first + pages; page += n) {
		n = first + pages - page < 16 ? first + pages - page : 16;
		fill(buf, n, tag, page);
		if (pwrite(fd, buf, n * ll_pg, page * ll_pg) !=
		    (ssize_t)(n * ll_pg))
			return false;
	}
	return true;
}

/* Some pages of a file have its own words only. */
static void check_range(int fd, off_t at, unsigned int pages)
{
	__u64 word[4096 / 8];
	__u32 tag = tag_of(fd);
	unsigned int i, page;

	for (page = 0; page < pages; page++) {
		if (pread(fd, word, ll_pg, at + page * ll_pg) != (ssize_t)ll_pg)
			return;
		for (i = 0; i < ARRAY_SIZE(word); i++)
			if (!is_own(word[i], tag, WORDS, at + page * ll_pg))
				complain("a file that nobody else writes to has changed");
	}
	COUNT(victims);
}

/* Put blocks that were just freed to another use. */
static void make_victim(int pages)
{
	int fd = open_nameless();

	if (fd < 0)
		return;
	/* ext4 keeps what was freed until the journal has it. */
	syncfs(fd);
	write_words(fd, tag_of(fd), 0, pages);
	keep_victim(fd);
}

static void check_victims(void)
{
	unsigned int i;

	for (i = 0; i < VICTIMS && i < victims; i++)
		check_victim(victim[i]);
}

/* Holders */

static bool is_allowed(int error, const int *allowed, size_t n)
{
	while (n--)
		if (error == allowed[n])
			return true;
	return false;
}

/* Full filesystems and truncated files make pages that cannot be had. */
static const int lease_errors[] = { EAGAIN, EOPNOTSUPP };
static const int region_errors[] = {
	EAGAIN, EPERM, EOPNOTSUPP, EFAULT, ENOSPC, ENOMEM,
};

/* Writes by RDMA until it does not work any more, or for a while. */
static void write_some(struct ll_rdma *r, char *map, struct ibv_mr *mr,
		       __u32 tag, unsigned int first, unsigned int pages,
		       bool stubborn)
{
	unsigned int n = 1 + ll_dice(stubborn ? 200 : 20), at, len;
	int status;

	while (n-- && !stopped()) {
		/* A holder that is polite lets go. */
		if (!stubborn && !ll_signal(SIGRTMIN, 0, NULL))
			return;
		len = 1 + ll_dice(pages < MAX_WRITE ? pages : MAX_WRITE);
		at = ll_dice(pages - len + 1);
		fill(r->buf, len, tag, first + at);
		status = ll_rdma_op(r, LL_A, IBV_WR_RDMA_WRITE, r->buf,
				    r->buf_mr->lkey, len * ll_pg,
				    map + at * ll_pg, mr->rkey);
		if (status == IBV_WC_SUCCESS) {
			COUNT(writes);
			continue;
		}
		if (status != IBV_WC_REM_ACCESS_ERR)
			complain("a write ends with status %d", status);
		COUNT(dead_writes);
		if (ll_rdma_connect(r))
			complain("the queue pairs do not connect");
		if (once_in(2))
			return;
	}
}

/* One that keeps all of it, for a short time longer than the holder. */
static void leave_it_to_a_child(void)
{
	if (fork() == 0) {
		ll_sleep_ms(ll_dice(200));
		_exit(0);
	}
}

struct hold {
	struct ll_rdma *r;
	int fd;
	unsigned int first, pages;
	char *map;
	struct ibv_mr *mr;
};

/* Lease and register some pages. */
static bool take(struct hold *h, int file)
{
	int type = once_in(8) ? F_WRLCK : F_RDLCK, ret;

	h->fd = open(path[file], O_RDWR);
	if (h->fd < 0)
		return false;
	h->first = ll_dice(PAGES - 64);
	h->pages = 1 + ll_dice(64);
	fcntl(h->fd, F_SETSIG, SIGRTMIN);
	h->map = ll_map(h->fd, h->first * ll_pg, h->pages * ll_pg,
			PROT_READ | PROT_WRITE);
	ret = ll_lease(h->fd, type, once_in(2) ? 0 : h->first * ll_pg, 0);
	if (ret) {
		if (!is_allowed(-ret, lease_errors, ARRAY_SIZE(lease_errors)))
			complain("F_SETLAYOUT: %s", strerror(-ret));
		COUNT(denied);
		return false;
	}
	COUNT(leases);
	h->mr = ll_reg(h->r, h->map, h->pages * ll_pg, LL_ACCESS);
	if (h->mr) {
		COUNT(regions);
		return true;
	}
	if (!is_allowed(errno, region_errors, ARRAY_SIZE(region_errors)))
		complain("ibv_reg_mr: %s", strerror(errno));
	COUNT(refused);
	return false;
}

static void drop_map(struct hold *h)
{
	if (h->map)
		munmap(h->map, h->pages * ll_pg);
	h->map = NULL;
}

static void drop_fd(struct hold *h)
{
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
}

static void hold(struct ll_rdma *r, int file, long pinned)
{
	struct hold h = { .r = r };
	__u32 tag;
	char *map;

	if (take(&h, file)) {
		tag = tag_of(h.fd);
		map = h.map;
		if (once_in(8))
			leave_it_to_a_child();
		if (once_in(4))
			drop_map(&h);
		if (once_in(4))
			drop_fd(&h);
		write_some(r, map, h.mr, tag, h.first, h.pages, once_in(2));
		if (once_in(16))
			_exit(0);
		if (once_in(4) && h.fd >= 0)
			ll_revoke(h.fd);
		if (ibv_dereg_mr(h.mr))
			complain("ibv_dereg_mr: %s", strerror(errno));
	}
	if (once_in(2) && h.fd >= 0)
		ll_unlock(h.fd);
	drop_map(&h);
	drop_fd(&h);
	while (!ll_signal(SIGRTMIN, 0, NULL))
		;
	if (ll_status_kb("VmPin") != pinned)
		complain("%ld kB stay pinned without a region",
			 ll_status_kb("VmPin") - pinned);
}

static void holder(int number)
{
	struct ll_rdma r;
	long pinned;

	if (ll_rdma_open(&r)) {
		complain("no RDMA");
		return;
	}
	pinned = ll_status_kb("VmPin");
	while (!stopped()) {
		hold(&r, ll_dice(FILES), pinned);
		COUNT(done[number]);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

/* Breakers */

/* It has become copy-on-write, and does not take leases any more. */
static void replace(int file)
{
	char name[PATH_MAX];
	int fd;

	snprintf(name, sizeof(name), "%s/new-XXXXXX", getenv("DAX2"));
	fd = mkstemp(name);
	if (fd < 0)
		return;
	fchmod(fd, 0644);
	if (ftruncate(fd, PAGES * ll_pg) || rename(name, path[file]))
		unlink(name);
	close(fd);
}

static void clone_away(int file, int fd)
{
	int to = open_nameless();

	if (to >= 0 && !ioctl(to, FICLONE, fd)) {
		if (!file_is_pure(file, to, fd))
			complain("a clone has what its source had not");
		COUNT(clones);
		replace(file);
	}
	close(to);
}

/* With a copy of a few pages, which the holders may change before it is shared. */
static void dedupe_away(int file, int fd, off_t at)
{
	static char buf[MAX_WRITE * 4096];
	int to = open_nameless();
	ssize_t n = 0;

	at = lseek(fd, at, SEEK_DATA);
	if (at >= 0 && to >= 0)
		n = pread(fd, buf, (1 + ll_dice(MAX_WRITE)) * ll_pg, at);
	n = n > 0 ? n / ll_pg * ll_pg : 0;
	if (n > 0 && pwrite(to, buf, n, at) == n &&
	    ll_dedupe(fd, at, n, to, at) == FILE_DEDUPE_RANGE_SAME) {
		if (!file_is_pure(file, to, fd))
			complain("a copy has what its source had not");
		COUNT(dedupes);
		replace(file);
	}
	close(to);
}

/* The file gets other words of its own, and its blocks become a victim. */
static void exchange_away(int fd, off_t at, unsigned int pages)
{
	int to = open_nameless();

	if (to >= 0 && write_words(to, tag_of(fd), at / ll_pg, pages) &&
	    !ll_exchange(fd, at, pages * ll_pg, to, at, 0)) {
		COUNT(exchanges);
		if (write_words(to, tag_of(to), at / ll_pg, pages)) {
			check_range(to, at, pages);
			ll_sleep_ms(ll_dice(20));
			check_range(to, at, pages);
		}
	}
	close(to);
}

/* Who may only read can copy, and share what nobody has leased. */
static void read_away(int file, off_t at, size_t len)
{
	int to = open_nameless(), fd;
	loff_t in = at, out = at;
	bool cloned = false;

	if (seteuid(65534))
		complain("seteuid: %s", strerror(errno));
	fd = open(path[file], O_RDONLY);
	if (once_in(2))
		cloned = !ioctl(to, FICLONE, fd);
	else if (copy_file_range(fd, &in, to, &out, len, 0) > 0)
		COUNT(copies);
	if (seteuid(0))
		complain("seteuid: %s", strerror(errno));
	/* What is copied while it is written to may be neither nor. */
	if (cloned && !file_is_pure(file, to, fd))
		complain("a clone has what its source had not");
	/* If nobody had leased it, what is copied is shared too. */
	if (fd >= 0 && ll_lease(fd, F_RDLCK, 0, 0) == -EOPNOTSUPP)
		replace(file);
	close(fd);
	close(to);
}

static void break_something(bool xfs)
{
	int file = ll_dice(FILES), fd = open(path[file], O_RDWR), ret = 0;
	off_t at = ll_dice(PAGES) * ll_pg, len = (1 + ll_dice(64)) * ll_pg;
	static char buf[MAX_WRITE * 4096];

	if (fd < 0)
		return;
	switch (ll_dice(12)) {
	case 0:
	case 1:
		ret = ftruncate(fd, at);
		if (!ret)
			make_victim(32);
		ret = ret ?: ftruncate(fd, PAGES * ll_pg);
		break;
	case 2:
	case 3:
	case 4:
		ret = ll_punch(fd, at, len);
		if (!ret)
			make_victim(len / ll_pg);
		break;
	case 5:
		if (file == COLLAPSING && at + len < (off_t)(PAGES * ll_pg)) {
			ret = fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, at, len);
			if (!ret)
				make_victim(len / ll_pg);
			ret = ret ?: ftruncate(fd, PAGES * ll_pg);
		}
		break;
	case 6:
		fill(buf, MAX_WRITE, tag_of(fd), at / ll_pg);
		/* No room is no error. */
		if (at + sizeof(buf) <= PAGES * ll_pg)
			pwrite(fd, buf, sizeof(buf), at);
		break;
	case 7:
		if (xfs && once_in(2))
			clone_away(file, fd);
		break;
	case 8:
		if (xfs && once_in(2))
			dedupe_away(file, fd, at);
		break;
	case 9:
		if (xfs && file != COLLAPSING)
			exchange_away(fd, at, len / ll_pg);
		break;
	case 10:
	case 11:
		read_away(file, at, len);
		break;
	}
	/* Another one has truncated the file, or there are no blocks at all. */
	if (ret && errno != EINVAL && errno != ENOSPC)
		complain("a breaker: %s", strerror(errno));
	COUNT(breaks);
	if (once_in(8) && !file_is_pure(file, fd, fd))
		complain("a file has what was written to another one");
	close(fd);
}

static void breaker(void)
{
	bool xfs = ll_is_xfs();

	while (!stopped()) {
		break_something(xfs);
		if (once_in(16))
			check_victims();
	}
	check_victims();
}

/* What is left behind */

static long vmstat(const char *field)
{
	char line[128];
	size_t len = strlen(field);
	long value = -1;
	FILE *f;

	/* What each processor counts is added up now and then only. */
	ll_write_str("/proc/sys/vm/stat_refresh", "1");
	f = fopen("/proc/vmstat", "re");
	while (f && value < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, len) && line[len] == ' ')
			value = strtol(line + len, NULL, 10);
	if (f)
		fclose(f);
	return value;
}

static long pinned_pages(void)
{
	return vmstat("nr_foll_pin_acquired") - vmstat("nr_foll_pin_released");
}

static bool becomes(long (*fn)(void), long at_most)
{
	long end = ll_now_ms() + LL_SLACK_MS;

	while (fn() > at_most && ll_now_ms() < end)
		ll_sleep_ms(50);
	return fn() <= at_most;
}

static long open_files(void)
{
	return ll_read_long("/proc/sys/fs/file-nr", -1);
}

FIXTURE(load) {
	struct ll_env env;
	char dev[64];
	pid_t pid[WORKERS];
	__u64 seed;
	long refs, files, pinned;
	int fd;
};

FIXTURE_SETUP(load)
{
	int i;

	LL_NEEDS_DAX2();
	if (ll_pg != 4096)
		SKIP(return, "pages have not 4096 bytes");
	LL_ENV_INIT(&self->env, false);
	self->fd = open(self->env.path, O_RDWR);
	self->refs = ll_module_settle(self->fd);
	ASSERT_EQ(0, ll_renew_filesystem(self->dev, sizeof(self->dev),
					 getenv("DAX2")));
	for (i = 0; i < FILES; i++) {
		ASSERT_EQ(0, ll_mkfile(path[i], PATH_MAX, getenv("DAX2"), 0, 0));
		ASSERT_EQ(0, truncate(path[i], PAGES * ll_pg));
		ASSERT_EQ(0, chmod(path[i], 0644));
	}
	score = ll_shared(sizeof(*score));
	ASSERT_NE(MAP_FAILED, score);
	self->seed = ll_env_number("STRESS_SEED", ll_now_ms() ^ getpid());
	ll_seed(self->seed, 0);
	self->files = open_files();
	self->pinned = pinned_pages();
}

FIXTURE_TEARDOWN(load)
{
	int i;

	for (i = 0; i < WORKERS; i++)
		if (self->pid[i] > 0)
			kill(self->pid[i], SIGKILL);
	ll_env_exit(&self->env);
}

static pid_t start_worker(int worker, __u64 seed, unsigned int n)
{
	pid_t pid;

	if (worker < HOLDERS)
		__atomic_store_n(&score->done[worker], 0, __ATOMIC_RELAXED);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ll_seed(seed, n);
	if (worker < HOLDERS)
		holder(worker);
	else
		breaker();
	_exit(0);
}

/* Workers that are gone, and were not told to stop, are replaced. */
static int replace_workers(pid_t *pid, __u64 seed, unsigned int *n)
{
	int i, status, failed = 0;

	for (i = 0; i < WORKERS; i++) {
		if (waitpid(pid[i], &status, WNOHANG) != pid[i])
			continue;
		if (status && status != SIGKILL)
			failed = status;
		pid[i] = start_worker(i, seed, ++*n);
	}
	return failed;
}

/* Can the check fail? One word that belongs elsewhere is enough. */
TEST_F_TIMEOUT(load, checker, 240)
{
	int fd = open_nameless(), other = open(path[0], O_RDWR);
	static char buf[16 * 4096];

	ASSERT_LE(0, fd);
	fill(buf, 16, tag_of(fd), 0);
	ASSERT_EQ(sizeof(buf), pwrite(fd, buf, sizeof(buf), 0));
	EXPECT_TRUE(is_pure(fd, tag_of(fd), WORDS, false));
	EXPECT_FALSE(is_pure(fd, tag_of(other), WORDS, false));
	fill(buf, 1, tag_of(other), 5);
	ASSERT_EQ(8, pwrite(fd, buf, 8, 5 * ll_pg + 8));
	EXPECT_FALSE(is_pure(fd, tag_of(fd), WORDS, false));
	/* A page of its own in another place. */
	fill(buf, 1, tag_of(fd), 4);
	ASSERT_EQ(8, pwrite(fd, buf, 8, 5 * ll_pg + 8));
	EXPECT_FALSE(is_pure(fd, tag_of(fd), WORDS, false));
	EXPECT_TRUE(is_pure(fd, tag_of(fd), MOVED_WORDS, false));
	ASSERT_EQ(0, ll_punch(fd, 0, ll_pg));
	EXPECT_FALSE(is_pure(fd, tag_of(fd), MOVED_WORDS, false));
}

static void filler(int sock, void *unused)
{
	ll_put(sock, ll_fill_up(getenv("DAX2"), FREE));
	ll_get(sock, INT_MAX);
}

/* All of them, once they are told to stop. */
static int wait_for_workers(pid_t *pid)
{
	long end = ll_now_ms() + 3 * LL_SOON_MS;
	int i, n = WORKERS, status, failed = 0;

	while (n && ll_now_ms() < end) {
		ll_sleep_ms(20);
		for (i = 0; i < WORKERS; i++) {
			if (!pid[i] || waitpid(pid[i], &status, WNOHANG) != pid[i])
				continue;
			pid[i] = 0;
			n--;
			if (status && status != SIGKILL)
				failed = status;
		}
	}
	return n ? -n : failed;
}

static bool files_are_pure(void)
{
	bool pure = true;
	int i, fd;

	for (i = 0; i < FILES; i++) {
		fd = open(path[i], O_RDONLY);
		if (fd < 0 || !file_is_pure(i, fd, fd))
			pure = false;
		close(fd);
	}
	return pure;
}

TEST_F_TIMEOUT(load, holders_and_breakers, 100000)
{
	long seconds = ll_env_number("STRESS_TIME", SECONDS), end;
	struct ll_proc fill_up;
	unsigned int n = 0;
	int i;

	TH_LOG("STRESS_SEED=%llu STRESS_TIME=%ld",
	       (unsigned long long)self->seed, seconds);
	ASSERT_EQ(0, ll_proc_start(&fill_up, filler, NULL));
	ASSERT_EQ(0, ll_get(fill_up.sock, LL_SOON_MS));
	for (i = 0; i < WORKERS; i++)
		self->pid[i] = start_worker(i, self->seed, ++n);
	end = ll_now_ms() + seconds * 1000;
	while (ll_now_ms() < end && !score->failed) {
		ll_sleep_ms(20 + ll_dice(100));
		ll_set_grace(once_in(4));
		i = ll_dice(HOLDERS);
		if (__atomic_load_n(&score->done[i], __ATOMIC_RELAXED) >
		    3 + ll_dice(20)) {
			kill(self->pid[i], SIGKILL);
			COUNT(killed);
		}
		EXPECT_EQ(0, replace_workers(self->pid, self->seed, &n));
	}
	__atomic_store_n(&score->stop, true, __ATOMIC_RELAXED);
	EXPECT_EQ(0, wait_for_workers(self->pid));
	EXPECT_FALSE(score->failed) TH_LOG("%s", score->what);
	TH_LOG("%ld leases, %ld denied; %ld regions, %ld refused; %ld killed",
	       score->leases, score->denied, score->regions, score->refused,
	       score->killed);
	TH_LOG("%ld writes, %ld to dead keys; %ld breaks, %ld clones",
	       score->writes, score->dead_writes, score->breaks, score->clones);
	TH_LOG("%ld deduplications, %ld exchanges, %ld copies by readers",
	       score->dedupes, score->exchanges, score->copies);
	TH_LOG("%ld victims, %ld words checked", score->victims, score->words);
	/* Something has happened. */
	EXPECT_LT(0, score->writes);
	EXPECT_LT(0, score->dead_writes);
	EXPECT_LT(0, score->victims);

	/* Nothing is left. */
	ll_proc_stop(&fill_up);
	EXPECT_TRUE(files_are_pure());
	EXPECT_TRUE(ll_module_refs_become(self->refs));
	EXPECT_EQ(0, ll_proc_leases());
	EXPECT_TRUE(becomes(pinned_pages, self->pinned))
		TH_LOG("%ld pages pinned, were %ld", pinned_pages(),
		       self->pinned);
	/* Other processes open and close files too. */
	EXPECT_TRUE(becomes(open_files, self->files + 12));
	ASSERT_EQ(0, ll_umount(getenv("DAX2")));
	EXPECT_EQ(0, ll_fsck(self->dev));
	ASSERT_EQ(0, ll_sh("mount -o dax=always /dev/%s $DAX2", self->dev));
	EXPECT_TRUE(files_are_pure());
	for (i = 0; i < FILES; i++)
		unlink(path[i]);
	if (self->refs >= 0) {
		EXPECT_EQ(0, ll_module_delete());
		EXPECT_EQ(0, ll_sh("modprobe " LL_MODULE));
	}
}

TEST_HARNESS_MAIN
