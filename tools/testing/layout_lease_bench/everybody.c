// SPDX-License-Identifier: GPL-2.0
/*
 * Those who use no leases: what they pay because the kernel has them, and what
 * because somebody else has one on another file.
 */
#include <sys/ioctl.h>
#include <linux/fs.h>

#include "bench.h"

#define FEW	9
#define MANY	33
#define STORED	(16 * MB)

static const char *fs, *how;	/* what it is measured on, and beside what */

/* measure() of such an operation. */
#define operation(rounds, what)	measure(rounds, "%s-%s/%s", fs, what, how)

static void opens(const char *path, const char *other)
{
	char page[PAGE] = { 1 };
	int fd;

	operation(MANY, "open") {
		begin();
		fd = open(path, O_RDWR);
		end(fd);
		close(fd);
	}
	operation(MANY, "open-trunc") {
		fd = new_file(other, 0);
		if (pwrite(fd, page, PAGE, 0) < 0)
			failed(strerror(errno), "%s", other);
		close(fd);
		begin();
		fd = open(other, O_RDWR | O_TRUNC);
		end(fd);
		close(fd);
	}
	operation(MANY, "close") {
		fd = open(path, O_RDWR);
		begin();
		end(close(fd));
	}
	operation(MANY, "unlink") {
		close(new_file(other, PAGE));
		begin();
		end(unlink(other));
	}
	operation(MANY, "setlease") {
		fd = open(other, O_RDONLY | O_CREAT, 0600);
		begin();
		end(fcntl(fd, F_SETLEASE, F_RDLCK));
		close(fd);
	}
	unlink(other);
}

static void reads_and_writes(int fd)
{
	char page[PAGE] = { 1 };
	off_t at = 4 * MB;
	int ret;

	operation(MANY, "read") {
		begin();
		end(pread(fd, page, PAGE, 0));
	}
	operation(MANY, "write") {
		begin();
		end(pwrite(fd, page, PAGE, 0));
	}
	operation(MANY, "append") {
		begin();
		ret = pwrite(fd, page, PAGE, at);
		end(ret);
		at += PAGE;
	}
	ftruncate(fd, MB);
}

static void allocations(const char *path, int fd)
{
	off_t at;

	operation(MANY, "fallocate-same") {
		begin();
		end(fallocate(fd, 0, 0, PAGE));
	}
	at = 2 * MB;
	operation(MANY, "fallocate") {
		begin();
		end(fallocate(fd, 0, at, PAGE));
		at += PAGE;
	}
	fallocate(fd, 0, 0, MB);
	at = 0;
	operation(MANY, "punch") {
		begin();
		end(ll_punch(fd, at, PAGE));
		at += 2 * PAGE;
	}
	operation(MANY, "truncate") {
		fallocate(fd, 0, 2 * MB, PAGE);
		begin();
		end(ftruncate(fd, 2 * MB));
	}
	operation(MANY, "truncate-up") {
		ftruncate(fd, MB);
		begin();
		end(ftruncate(fd, 2 * MB));
	}
	operation(MANY, "truncate-unaligned") {
		ftruncate(fd, MB - 100);
		begin();
		end(truncate(path, MB));
	}
	fallocate(fd, 0, 0, MB);
}

static void mappings(int fd)
{
	char page[PAGE] = { 1 };
	volatile char *map;

	operation(MANY, "mmap") {
		begin();
		map = map_file(fd, 64 * KB, PROT_READ | PROT_WRITE);
		end(0);
		munmap((char *)map, 64 * KB);
	}
	operation(MANY, "read-fault") {
		map = map_file(fd, 64 * KB, PROT_READ | PROT_WRITE);
		begin();
		(void)map[0];
		end(0);
		munmap((char *)map, 64 * KB);
	}
	operation(MANY, "write-fault") {
		map = map_file(fd, 64 * KB, PROT_READ | PROT_WRITE);
		begin();
		map[0] = 1;
		end(0);
		munmap((char *)map, 64 * KB);
	}
	operation(MANY, "munmap") {
		map = map_file(fd, 64 * KB, PROT_READ | PROT_WRITE);
		map[0] = 1;
		begin();
		end(munmap((char *)map, 64 * KB));
	}
	operation(MANY, "fsync-nothing") {
		fsync(fd);
		begin();
		end(fsync(fd));
	}
	operation(MANY, "fsync") {
		if (pwrite(fd, page, PAGE, 0) < 0)
			failed(strerror(errno), "pwrite");
		map = map_file(fd, PAGE, PROT_READ | PROT_WRITE);
		map[0] = 1;
		munmap((char *)map, PAGE);
		begin();
		end(fsync(fd));
	}
}

/* A new file, whose blocks are aligned, with data that was written by stores. */
static int stored_file(const char *path, size_t size, bool small, bool clean)
{
	int fd = new_file(path, size);

	if (small)
		fill_small(fd, size);
	else
		fill(fd, size);
	if (clean)
		fsync(fd);
	return fd;
}

/* With all kinds of DAX entries; @name says which. */
static void stored(const char *path, const char *other, const char *name, bool small,
		   bool clean)
{
	char *map;
	int fd, fd2;

	measure(FEW, "dax-truncate-%s/%s", name, how) {
		fd = stored_file(path, STORED, small, clean);
		begin();
		end(ftruncate(fd, 0));
		close(fd);
	}
	measure(FEW, "dax-truncate-mapped-%s/%s", name, how) {
		fd = stored_file(path, STORED, small, clean);
		map = map_file(fd, STORED, PROT_READ | PROT_WRITE);
		store(map, STORED);
		begin();
		end(ftruncate(fd, 0));
		munmap(map, STORED);
		close(fd);
	}
	/* In the middle of an entry, if it is a large one. */
	measure(FEW, "dax-truncate-part-%s/%s", name, how) {
		fd = stored_file(path, 4 * MB, small, clean);
		begin();
		end(ftruncate(fd, 2 * MB + 64 * KB));
		close(fd);
	}
	measure(FEW, "dax-punch-4K-%s/%s", name, how) {
		fd = stored_file(path, 4 * MB, small, clean);
		begin();
		end(ll_punch(fd, 2 * MB + 64 * KB, PAGE));
		close(fd);
	}
	measure(FEW, "dax-punch-2M-%s/%s", name, how) {
		fd = stored_file(path, 4 * MB, small, clean);
		begin();
		end(ll_punch(fd, 2 * MB, 2 * MB));
		close(fd);
	}
	measure(FEW, "dax-zero-2M-%s/%s", name, how) {
		fd = stored_file(path, 4 * MB, small, clean);
		begin();
		end(fallocate(fd, FALLOC_FL_ZERO_RANGE, 2 * MB, 2 * MB));
		close(fd);
	}
	measure(FEW, "dax-collapse-%s/%s", name, how) {
		fd = stored_file(path, 4 * MB, small, clean);
		begin();
		end(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 2 * MB, PAGE));
		close(fd);
	}
	measure(FEW, "dax-fsync-%s/%s", name, how) {
		fd = stored_file(path, STORED, small, clean);
		begin();
		end(fsync(fd));
		close(fd);
	}
	measure(FEW, "dax-unlink-%s/%s", name, how) {
		fd = stored_file(path, STORED, small, clean);
		close(fd);
		begin();
		end(unlink(path));
	}
	if (ll_is_xfs()) {
		measure(FEW, "dax-clone-%s/%s", name, how) {
			fd = stored_file(path, 4 * MB, small, clean);
			fd2 = new_file(other, 0);
			begin();
			end(ioctl(fd2, FICLONE, fd));
			close(fd);
			close(fd2);
		}
		unlink(other);
	}
	unlink(path);
}

static void registrations(void)
{
	static const size_t sizes[] = { 1, 256 };
	char *buf = anonymous(2 * MB, MADV_NOHUGEPAGE);
	struct ibv_mr *mr;
	unsigned int i;

	fs = "anon";
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		measure(MANY, "anon-reg-%zu/%s", sizes[i], how) {
			begin();
			mr = ibv_reg_mr(rdma.pd, buf, sizes[i] * PAGE, ACCESS);
			end(mr ? 0 : -1);
			ibv_dereg_mr(mr);
		}
		measure(MANY, "anon-dereg-%zu/%s", sizes[i], how) {
			mr = ibv_reg_mr(rdma.pd, buf, sizes[i] * PAGE, ACCESS);
			begin();
			end(-ibv_dereg_mr(mr));
		}
	}
	munmap(buf, 2 * MB);
}

static void on(const char *dir, const char *name)
{
	char path[PATH_MAX], other[PATH_MAX];
	int fd;

	fs = name;
	snprintf(path, sizeof(path), "%s/everybody", dir);
	snprintf(other, sizeof(other), "%s/everybody-2", dir);
	fd = new_file(path, MB);
	opens(path, other);
	reads_and_writes(fd);
	allocations(path, fd);
	mappings(fd);
	close(fd);
	unlink(path);
	if (strcmp(name, "dax"))
		return;
	stored(path, other, "dirty", false, false);
	stored(path, other, "clean", false, true);
	stored(path, other, "dirty-4K", true, false);
	stored(path, other, "clean-4K", true, true);
}

static void all(const char *name)
{
	how = name;
	on(dax1, "dax");
	on("/dev/shm", "tmpfs");
	registrations();
}

void everybody(void)
{
	all("alone");
}

void everybody_beside(void)
{
	if (!has_leases)
		return;
	lease_elsewhere();
	all("beside");
	no_lease_elsewhere();
}
