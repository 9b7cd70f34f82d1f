// SPDX-License-Identifier: GPL-2.0
/* Registration of memory regions and its end, by size and by kind of memory. */
#include "bench.h"

#define LARGEST		65536
#define SCATTERED	4096

static int rounds(size_t pages)
{
	return pages > 4096 ? 3 : pages > 256 ? 5 : 9;
}

static void one_size(const char *how, char *buf, size_t pages, int access)
{
	struct ibv_mr *mr;

	measure(rounds(pages), "reg-%zu/%s", pages, how) {
		begin();
		mr = ibv_reg_mr(rdma.pd, buf, pages * PAGE, access);
		end(mr ? 0 : -1);
		if (mr)
			ibv_dereg_mr(mr);
	}
	measure(rounds(pages), "dereg-%zu/%s", pages, how) {
		mr = ibv_reg_mr(rdma.pd, buf, pages * PAGE, access);
		if (!mr) {
			failed(strerror(errno), "dereg-%zu/%s", pages, how);
			break;
		}
		begin();
		end(-ibv_dereg_mr(mr));
	}
}

static void sizes(const char *how, char *buf, size_t most, int access)
{
	static const size_t pages[] = { 1, 16, 256, 4096, LARGEST };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(pages) && pages[i] <= most; i++)
		one_size(how, buf, pages[i], access);
}

/* Of a mapping that nobody has touched. */
static void untouched(const char *how, int fd, size_t pages, int access)
{
	struct ibv_mr *mr;
	char *map;

	measure(5, "reg-untouched-%zu/%s", pages, how) {
		map = map_file(fd, pages * PAGE, PROT_READ | PROT_WRITE);
		begin();
		mr = ibv_reg_mr(rdma.pd, map, pages * PAGE, access);
		end(mr ? 0 : -1);
		if (mr)
			ibv_dereg_mr(mr);
		munmap(map, pages * PAGE);
	}
}

static void memories(void)
{
	size_t size = LARGEST * PAGE, at;
	char *buf;
	int fd;

	buf = anonymous(size, MADV_NOHUGEPAGE);
	sizes("anon", buf, LARGEST, ACCESS);
	if (bench_odp())
		sizes("anon-odp", buf, LARGEST, ACCESS | ODP);
	munmap(buf, size);
	fd = device_dax();
	if (fd < 0) {
		failed("no device", "device DAX");
		return;
	}
	buf = map_file(fd, size, PROT_READ | PROT_WRITE);
	for (at = 0; at < size; at += 2 * MB)
		buf[at] = 1;
	sizes("devdax", buf, LARGEST, ACCESS);
	munmap(buf, size);
	untouched("devdax", fd, 4096, ACCESS);
	close(fd);
}

/* In extents of 2 MiB. */
static void huge(void)
{
	size_t size = LARGEST * PAGE;
	char path[PATH_MAX], *map;
	int fd;

	snprintf(path, sizeof(path), "%s/reg", dax1);
	fd = new_file(path, size);
	fill(fd, size);
	fsync(fd);
	map = map_file(fd, size, PROT_READ | PROT_WRITE);
	store(map, size);
	if (bench_odp())
		sizes("odp", map, LARGEST, ACCESS | ODP);
	if (has_leases) {
		lease(fd, F_RDLCK, 0, 0);
		sizes("leased", map, LARGEST, ACCESS);
		munmap(map, size);
		map = map_file(fd, size, PROT_READ);
		sizes("leased-ro", map, 4096, IBV_ACCESS_REMOTE_READ);
		untouched("leased", fd, 4096, ACCESS);
		lease(fd, F_UNLCK, 0, 0);
	}
	if (bench_odp())
		untouched("odp", fd, 4096, ACCESS | ODP);
	munmap(map, size);
	close(fd);
	unlink(path);
}

/* In extents of 4 KiB. */
static void small(void)
{
	size_t size = SCATTERED * PAGE;
	char path[PATH_MAX], *map;
	unsigned int i;
	int fd;

	snprintf(path, sizeof(path), "%s/scattered", dax1);
	fd = scattered_file(path, SCATTERED);
	map = map_file(fd, size, PROT_READ | PROT_WRITE);
	store(map, size);
	fsync(fd);
	store(map, size);
	if (bench_odp())
		sizes("scattered-odp", map, SCATTERED, ACCESS | ODP);
	if (has_leases) {
		lease(fd, F_RDLCK, 0, 0);
		sizes("scattered", map, SCATTERED, ACCESS);
		lease(fd, F_UNLCK, 0, 0);
		/* As many leases as pages. */
		for (i = 0; i < SCATTERED; i++)
			lease(fd, F_RDLCK, i * PAGE, PAGE);
		sizes("scattered-leases", map, SCATTERED, ACCESS);
		lease(fd, F_UNLCK, 0, 0);
	}
	munmap(map, size);
	close(fd);
	unlink(path);
}

void reg(void)
{
	memories();
	huge();
	small();
}
