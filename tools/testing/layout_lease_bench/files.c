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

/*
 * A file none of whose pages is beside the one before: what is free are holes, some
 * more than it needs.
 */
int scattered_file(const char *path, unsigned int pages)
{
	char fill[PATH_MAX], holes[PATH_MAX];
	unsigned long size, at = 0;
	unsigned int pieces = 2 * pages + 1024, i;
	int fd, fill_fd, holes_fd;

	snprintf(fill, sizeof(fill), "%s.fill", path);
	snprintf(holes, sizeof(holes), "%s.holes", path);
	fd = new_file(path, 0);
	holes_fd = new_file(holes, pieces * PAGE);
	fill_fd = new_file(fill, 0);
	for (size = 64 * MB; size >= PAGE; size /= 2)
		while (!fallocate(fill_fd, 0, at, size))
			at += size;
	for (i = 0; i < pieces; i += 2)
		ll_punch(holes_fd, i * PAGE, PAGE);
	sync();
	for (i = 0; i < pages; i++)
		if (fallocate(fd, 0, i * PAGE, PAGE)) {
			failed(strerror(errno), "%s, page %u", path, i);
			exit(1);
		}
	fsync(fd);
	close(fill_fd);
	close(holes_fd);
	unlink(fill);
	unlink(holes);
	if (extents(fd) < pages / 10 * 9)
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

static int elsewhere = -1;

void lease_elsewhere(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/elsewhere", dax2);
	elsewhere = new_file(path, 64 * KB);
	if (lease(elsewhere, F_RDLCK, 0, 0))
		failed(strerror(errno), "a lease on another file");
}

void no_lease_elsewhere(void)
{
	close(elsewhere);
	/* What it switched on is switched off with a delay. */
	ll_sleep_ms(2500);
}
