// SPDX-License-Identifier: GPL-2.0
/*
 * What else processes do with files.
 */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "model.h"

#define NOBODY	65534

/* O_PATH descriptors of the files, to open them by. */
static int base[FILES];

/* A file on dir that anybody may write; it has no name. */
static int make_file(const char *dir, uid_t owner)
{
	char path[PATH_MAX];
	int fd;

	if (ll_mkfile(path, sizeof(path), dir, 0, 0) || chmod(path, 0666) ||
	    chown(path, owner, owner))
		return -1;
	fd = open(path, O_PATH);
	return unlink(path) ? -1 : fd;
}

int make_files(const char *dir)
{
	base[DAX] = make_file(dir, 0);
	base[DAX_NOBODY] = make_file(dir, NOBODY);
	base[TMPFS] = memfd_create("layout_lease", 0);
	base[DIRECTORY] = open(dir, O_PATH);
	base[DEVICE] = open("/dev/null", O_PATH);
	base[PATH_ONLY] = base[DAX];
	return base[DAX] < 0 || base[DAX_NOBODY] < 0 ? -EIO : 0;
}

static int open_file(enum file file, bool writable)
{
	int flags = (writable ? O_RDWR : O_RDONLY) | O_NONBLOCK;
	char path[32];
	int fds[2];

	switch (file) {
	case PIPE:
		if (pipe(fds))
			return -1;
		close(fds[!writable]);
		return fds[writable];
	case SOCKET:
		return socket(AF_UNIX, SOCK_STREAM, 0);
	case PATH_ONLY:
		flags = O_PATH;
		break;
	case DIRECTORY:
		flags = O_RDONLY;
		break;
	default:
		break;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", base[file]);
	return open(path, flags);
}

static int free_desc(void)
{
	int i;

	for (i = 0; i < DESCS; i++)
		if (!world->desc[i].refs)
			return i;
	return -1;
}

void do_open(int slot)
{
	enum file file = once_in(4) ? dice(FILES) : DAX + dice(2);
	int desc = free_desc(), fd;
	bool writable = !once_in(4);

	if (me.desc[slot] >= 0 || desc < 0)
		return;
	fd = open_file(file, writable);
	if (fd < 0) {
		/* A plain lease may be in the way. */
		if (errno != EWOULDBLOCK)
			complain("open of file %d: %s", file, strerror(errno));
		return;
	}
	world->desc[desc] = (struct desc) {
		.file = file, .writable = writable, .refs = 1,
	};
	me.fd[slot] = fd;
	me.desc[slot] = desc;
}

static void put_desc(int slot)
{
	struct desc *d = &world->desc[me.desc[slot]];

	if (!--d->refs)
		model_forget(d);
	me.desc[slot] = -1;
}

void do_close(int slot)
{
	if (me.desc[slot] < 0)
		return;
	if (close(me.fd[slot]))
		complain("close: %s", strerror(errno));
	put_desc(slot);
	/* Slots of closed files are used, too. */
	me.fd[slot] = once_in(2) ? -1 : 999999;
}

void do_dup(int from, int to)
{
	if (me.desc[from] < 0 || me.desc[to] >= 0)
		return;
	me.fd[to] = dup(me.fd[from]);
	if (me.fd[to] < 0) {
		complain("dup: %s", strerror(errno));
		return;
	}
	me.desc[to] = me.desc[from];
	world->desc[me.desc[to]].refs++;
}

/* Plain leases have rules of their own, and no influence on layout leases. */
void do_plain_lease(int slot)
{
	static const int types[] = { F_RDLCK, F_WRLCK, F_UNLCK };
	int type = PICK(types);

	fcntl(me.fd[slot], F_SETLEASE, type);
	if (me.desc[slot] >= 0 && type == F_UNLCK &&
	    fcntl(me.fd[slot], F_GETLEASE) > F_UNLCK)
		complain("F_GETLEASE tells a type that there is not");
}

void do_signal(int slot)
{
	static const int signals[] = { 0, SIGIO, SIGUSR1, 65, -1 };
	int sig = PICK(signals);

	if (once_in(2))
		fcntl(me.fd[slot], F_SETOWN, once_in(2) ? getpid() : 0);
	else if (!fcntl(me.fd[slot], F_SETSIG, sig ?: SIGRTMIN) &&
		 (sig == 65 || sig == -1))
		complain("F_SETSIG takes signal %d", sig);
}

/* Layout changes of a file that nothing is attached to. */
void do_change(int slot)
{
	unsigned int lo = dice(point(3 * MB2));
	unsigned int hi = lo + 1 + dice(point(3 * MB2) - lo);
	const struct desc *d;
	int ret;

	/* With few leases left it is not told who is broken first. */
	if (me.desc[slot] < 0 || world->limit != NO_LIMIT)
		return;
	d = &world->desc[me.desc[slot]];
	if (!is_dax(d->file) || !d->writable)
		return;
	if (once_in(2)) {
		/* There is nothing to punch behind the end. */
		ret = ftruncate(me.fd[slot], 3 * MB2) ? -errno :
			ll_punch(me.fd[slot], points[lo],
				 points[hi] - points[lo]);
		model_break(d->file, lo, hi);
	} else {
		/* From a size that takes nothing away. */
		ret = ftruncate(me.fd[slot], 3 * MB2) ||
			ftruncate(me.fd[slot], 0) ? -errno : 0;
		model_break(d->file, 0, PIECES);
	}
	if (ret)
		complain("a layout change: %s", strerror(-ret));
}

/* Leave room for few leases, or take the limit off. */
void do_limit(void)
{
	if (!me.privileged)
		return;
	if (world->limit == NO_LIMIT)
		world->limit = model_count(once_in(2)) + dice(3);
	else
		world->limit = NO_LIMIT;
	if (ll_write_long(LIMIT_SYSCTL, world->limit))
		complain("cannot write " LIMIT_SYSCTL);
}

void open_slots(void)
{
	int slot;

	for (slot = 0; slot < SLOTS; slot++) {
		me.fd[slot] = -1;
		me.desc[slot] = -1;
		if (!once_in(3))
			do_open(slot);
	}
}

void close_slots(void)
{
	int slot;

	for (slot = 0; slot < SLOTS; slot++)
		do_close(slot);
}

void inherit_slots(int children)
{
	int slot;

	for (slot = 0; slot < SLOTS; slot++)
		if (me.desc[slot] >= 0)
			world->desc[me.desc[slot]].refs += children;
}

void give_slots_up(void)
{
	int slot;

	for (slot = 0; slot < SLOTS; slot++)
		if (me.desc[slot] >= 0)
			put_desc(slot);
}
