// SPDX-License-Identifier: GPL-2.0
/* The files and the memory that the measurements are about. */
#include <glob.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "bench.h"

int new_file(const char *path, size_t size)
{
	int fd;

	unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || (size && fallocate(fd, 0, 0, size)))
		failed(strerror(errno), "%s", path);
	return fd;
}

static unsigned int extents(int fd)
{
	struct fiemap map = { .fm_length = ~0UL, .fm_flags = FIEMAP_FLAG_SYNC };

	return ioctl(fd, FS_IOC_FIEMAP, &map) ? 0 : map.fm_mapped_extents;
}

static void page_by_page(int fd, unsigned int pages, int between)
{
	unsigned int i;

	for (i = 0; i < pages; i++)
		if (fallocate(fd, 0, i * PAGE, PAGE) ||
		    (between >= 0 && fallocate(between, 0, i * PAGE, PAGE))) {
			failed(strerror(errno), "page %u of a scattered file", i);
			exit(1);
		}
	fsync(fd);
}

/*
 * Two files without names, which leave holes of one page to all others, some more than
 * so many.
 */
static void leave_holes(const char *name, unsigned int pages, int fds[2])
{
	unsigned int pieces = 2 * pages + 1024, i;
	unsigned long size, at = 0;

	fds[0] = new_file(name, pieces * PAGE);
	unlink(name);
	fds[1] = new_file(name, 0);
	unlink(name);
	for (size = 64 * MB; size >= PAGE; size /= 2)
		while (!fallocate(fds[1], 0, at, size))
			at += size;
	for (i = 0; i < pieces; i += 2)
		ll_punch(fds[0], i * PAGE, PAGE);
	sync();
}

/* A file none of whose pages is beside the one before. */
int scattered_file(const char *path, unsigned int pages)
{
	unsigned int enough = pages / 10 * 9;
	int fd = new_file(path, 0), others[2];
	char name[PATH_MAX];

	/* Each page of another file lies between, unless each file has a place. */
	snprintf(name, sizeof(name), "%s/other", dax1);
	others[0] = new_file(name, 0);
	unlink(name);
	page_by_page(fd, pages, others[0]);
	close(others[0]);
	if (extents(fd) >= enough)
		return fd;
	ftruncate(fd, 0);
	leave_holes(name, pages, others);
	page_by_page(fd, pages, -1);
	close(others[0]);
	close(others[1]);
	if (extents(fd) < enough)
		failed("not scattered", "%s", path);
	return fd;
}

char *map_file(int fd, size_t size, int prot)
{
	char *map = mmap(NULL, size, prot, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		failed(strerror(errno), "mmap");
	return map;
}

void store(char *map, size_t size)
{
	size_t i;

	for (i = 0; i < size; i += PAGE)
		map[i] = 1;
}

void fill(int fd, size_t size)
{
	char *map;

	if (fallocate(fd, 0, 0, size))
		failed(strerror(errno), "fallocate");
	map = map_file(fd, size, PROT_READ | PROT_WRITE);
	store(map, size);
	munmap(map, size);
}

void fill_small(int fd, size_t size)
{
	size_t space = size + 4 * MB;
	char *area = mmap(NULL, space, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *map = (char *)(((unsigned long)area + 2 * MB - 1) & ~(2 * MB - 1)) + PAGE;

	if (area == MAP_FAILED || fallocate(fd, 0, 0, size) ||
	    mmap(map, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != map)
		failed(strerror(errno), "small pages");
	else
		store(map, size);
	munmap(area, space);
}

char *anonymous(size_t size, int advice)
{
	char *map = mmap(NULL, size + 2 * MB, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED) {
		failed(strerror(errno), "mmap");
		exit(1);
	}
	map = (char *)(((unsigned long)map + 2 * MB - 1) & ~(2 * MB - 1));
	madvise(map, size, advice);
	store(map, size);
	return map;
}

int device_dax(void)
{
	glob_t found;
	int fd = -1;

	if (!glob("/dev/dax*", 0, NULL, &found)) {
		fd = open(found.gl_pathv[0], O_RDWR | O_CLOEXEC);
		globfree(&found);
	}
	return fd;
}

/* As ll_lease(), but with nothing around the system call. */
int lease(int fd, int type, unsigned long start, unsigned long len)
{
	struct layout_lease arg = {
		.size = sizeof(arg), .type = type, .start = start, .len = len,
	};

	return fcntl(fd, F_SETLAYOUT, &arg);
}

static struct ll_proc elsewhere;

static void hold_lease(int sock, void *path)
{
	int fd = new_file(path, 64 * KB);

	ll_put(sock, lease(fd, F_RDLCK, 0, 0) ? -errno : 0);
	pause();
}

void lease_elsewhere(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/elsewhere", dax2);
	if (ll_proc_start(&elsewhere, hold_lease, path) ||
	    ll_get(elsewhere.sock, LL_SOON_MS))
		failed("not granted", "a lease on another file");
}

void no_lease_elsewhere(void)
{
	ll_proc_stop(&elsewhere);
	/* What it switched on is switched off with a delay. */
	ll_sleep_ms(2500);
}
