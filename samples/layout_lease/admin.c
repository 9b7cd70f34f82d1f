// SPDX-License-Identifier: GPL-2.0
/*
 * What the administrator of the demonstration does, apart from starting things.
 *
 *   admin make FILE         a file of 1 MiB, written
 *   admin truncate FILE     to nothing
 *   admin peek FILE         how many of the client's writes it shows
 *   admin blocks FILE       the blocks on the device that it occupies
 *   admin reuse FILE LIST   grow FILE until it occupies the blocks of LIST
 *                           (output of "blocks"), and write to those
 *   admin sum FILE LIST     checksum of these blocks, through FILE
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/fiemap.h>
#include <linux/fs.h>

#include "demo.h"

#define PAGE	4096
#define SIZE	(1024 * 1024)
#define CHUNK	(16 * 1024 * 1024)
#define MAX	1024

struct extent {
	__u64 logical, physical, len;
};

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		die(path);
	return fd;
}

static void write_at(int fd, const void *buf, size_t len, off_t offset)
{
	if (pwrite(fd, buf, len, offset) != (ssize_t)len)
		die("write");
}

/* Where the file lies on the device. */
static int map_extents(int fd, struct extent *extents)
{
	struct {
		struct fiemap map;
		struct fiemap_extent extents[MAX];
	} arg = {
		.map = {
			.fm_length = FIEMAP_MAX_OFFSET,
			.fm_flags = FIEMAP_FLAG_SYNC,
			.fm_extent_count = MAX,
		},
	};
	unsigned int i;

	if (ioctl(fd, FS_IOC_FIEMAP, &arg))
		die("FIEMAP");
	for (i = 0; i < arg.map.fm_mapped_extents; i++) {
		extents[i].logical = arg.extents[i].fe_logical;
		extents[i].physical = arg.extents[i].fe_physical;
		extents[i].len = arg.extents[i].fe_length;
	}
	return i;
}

/*
 * The parts of fd that lie on the listed blocks: call each() for each page,
 * return how many pages.
 */
static long each_page(int fd, const char *list, long *listed,
		      void (*each)(int fd, off_t offset))
{
	static struct extent extents[MAX];
	int i, n = map_extents(fd, extents);
	unsigned long long physical, len;
	FILE *f = fopen(list, "r");
	long pages = 0;

	if (!f)
		die(list);
	*listed = 0;
	while (fscanf(f, "%llu %llu", &physical, &len) == 2) {
		*listed += len / PAGE;
		for (; len; len -= PAGE, physical += PAGE) {
			for (i = 0; i < n; i++) {
				struct extent *e = &extents[i];

				if (physical < e->physical ||
				    physical >= e->physical + e->len)
					continue;
				pages++;
				if (each)
					each(fd, e->logical + physical -
					     e->physical);
			}
		}
	}
	fclose(f);
	return pages;
}

static void fill_page(int fd, off_t offset)
{
	char buf[PAGE];

	memset(buf, 0xa0 | (offset / PAGE % 16), sizeof(buf));
	write_at(fd, buf, sizeof(buf), offset);
}

static __u64 checksum = 0xcbf29ce484222325ULL;	/* FNV-1a */

static void sum_page(int fd, off_t offset)
{
	unsigned char buf[PAGE];
	int i;

	if (pread(fd, buf, sizeof(buf), offset) != sizeof(buf))
		die("read");
	for (i = 0; i < PAGE; i++)
		checksum = (checksum ^ buf[i]) * 0x100000001b3ULL;
}

static int do_make(const char *path)
{
	static char buf[SIZE];
	int fd = open_file(path, O_RDWR | O_CREAT | O_TRUNC);

	write_at(fd, buf, sizeof(buf), 0);
	return fsync(fd);
}

static int do_truncate(const char *path)
{
	long start = demo_ms();

	say("truncate(\"%s\", 0)", strrchr(path, '/') + 1);
	event("truncate");
	if (truncate(path, 0))
		die("truncate");
	say("truncate is done, after %ld ms", demo_ms() - start);
	event("truncated");
	return 0;
}

static int do_peek(const char *path)
{
	int fd = open_file(path, O_RDONLY);
	__u64 head[2], last[2] = {};
	off_t offset;

	for (offset = 0; pread(fd, head, sizeof(head), offset) == sizeof(head);
	     offset += PAGE)
		if (head[0] > last[0])
			memcpy(last, head, sizeof(last));
	say("read(2) of the file shows write %llu, made at %llu ms",
	    (unsigned long long)last[0], (unsigned long long)last[1]);
	if (!last[0])
		return 1;
	event("seen");
	return 0;
}

static int do_blocks(const char *path)
{
	static struct extent extents[MAX];
	int i, n = map_extents(open_file(path, O_RDONLY), extents);

	for (i = 0; i < n; i++)
		printf("%llu %llu\n", (unsigned long long)extents[i].physical,
		       (unsigned long long)extents[i].len);
	return n == 0;
}

static int do_reuse(const char *path, const char *list)
{
	int fd = open_file(path, O_RDWR | O_CREAT | O_TRUNC);
	off_t size = 0, chunk = CHUNK;
	long pages, listed;

	/* What was freed can be had when it is in the journal. */
	if (syncfs(fd))
		die("syncfs");
	do {
		if (!fallocate(fd, 0, size, chunk))
			size += chunk;
		else if (errno == ENOSPC)
			chunk /= 2;
		else
			die("fallocate");
		pages = each_page(fd, list, &listed, NULL);
	} while (pages < listed && chunk >= PAGE);
	each_page(fd, list, &listed, fill_page);
	if (fsync(fd))
		die("fsync");
	say("another file took %ld of %ld freed pages, and is written", pages,
	    listed);
	if (pages < listed / 2)
		return 1;
	event("reused");
	return 0;
}

static int do_sum(const char *path, const char *list)
{
	long pages, listed;

	pages = each_page(open_file(path, O_RDONLY), list, &listed, sum_page);
	printf("%ld-%016llx\n", pages, (unsigned long long)checksum);
	return pages == 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*one)(const char *path);
		int (*two)(const char *path, const char *list);
	} commands[] = {
		{ "make", do_make, NULL },
		{ "truncate", do_truncate, NULL },
		{ "peek", do_peek, NULL },
		{ "blocks", do_blocks, NULL },
		{ "reuse", NULL, do_reuse },
		{ "sum", NULL, do_sum },
	};
	unsigned int i;

	demo_who = "administrator";
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (argc < 3 || strcmp(argv[1], commands[i].name))
			continue;
		if (argc == 3 && commands[i].one)
			return commands[i].one(argv[2]) != 0;
		if (argc == 4 && commands[i].two)
			return commands[i].two(argv[2], argv[3]) != 0;
	}
	fprintf(stderr, "usage: admin make|truncate|peek|blocks|reuse|sum FILE [LIST]\n");
	return 2;
}
