// SPDX-License-Identifier: GPL-2.0
/* What objects of the kernel a lease and a region take, each. */
#include <glob.h>

#include "bench.h"

#define COUNT	4000

/* In use, without what the slab caches have ready. */
static long in_use(void)
{
	long total = 0, used, size;
	glob_t caches;
	char line[512];
	size_t i;
	FILE *f;

	/* What is freed after a grace period of RCU, and batched. */
	ll_sleep_ms(6000);
	if (!glob("/sys/kernel/slab/*/shrink", 0, NULL, &caches)) {
		for (i = 0; i < caches.gl_pathc; i++)
			ll_write_long(caches.gl_pathv[i], 1);
		globfree(&caches);
	}
	f = fopen("/proc/slabinfo", "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %ld %*d %ld", &used, &size) == 2)
			total += used * size;
	if (f)
		fclose(f);
	return total;
}

static int fds[COUNT];
static struct ibv_mr *mrs[COUNT];

static long of_regions(char *map)
{
	long before = in_use(), after;
	unsigned int i;

	for (i = 0; i < COUNT; i++) {
		mrs[i] = ibv_reg_mr(rdma.pd, map + i * PAGE, PAGE, ACCESS);
		if (!mrs[i]) {
			failed(strerror(errno), "memory: region %u", i);
			break;
		}
	}
	after = in_use();
	while (i--)
		ibv_dereg_mr(mrs[i]);
	return (after - before) / COUNT;
}

void memory(void)
{
	char path[PATH_MAX], *map, *buf;
	long before, plain, anon;
	unsigned int i;
	int fd;

	if (!has_leases || !wanted("memory-"))
		return;
	snprintf(path, sizeof(path), "%s/memory", dax1);
	fd = new_file(path, COUNT * PAGE);
	map = map_file(fd, COUNT * PAGE, PROT_READ | PROT_WRITE);
	store(map, COUNT * PAGE);
	lease_elsewhere();

	lease(fd, F_RDLCK, 1UL << 40, PAGE);
	before = in_use();
	for (i = 0; i < COUNT; i++)
		lease(fd, F_RDLCK, i * 2 * PAGE, PAGE);
	report("bytes", (in_use() - before) / COUNT, "memory-further/leased");
	lease(fd, F_UNLCK, 0, 0);

	for (i = 0; i < COUNT; i++)
		fds[i] = open(path, O_RDWR | O_CLOEXEC);
	before = in_use();
	for (i = 0; i < COUNT; i++)
		lease(fds[i], F_RDLCK, 0, 0);
	before = (in_use() - before) / COUNT;
	for (i = 0; i < COUNT; i++) {
		close(fds[i]);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
	}
	plain = in_use();
	for (i = 0; i < COUNT; i++)
		fcntl(fds[i], F_SETLEASE, F_RDLCK);
	plain = (in_use() - plain) / COUNT;
	report("bytes", plain, "memory-first/plain");
	report("bytes", before, "memory-first/leased");
	report("bytes", before - plain, "memory-first/beside");
	for (i = 0; i < COUNT; i++)
		close(fds[i]);

	buf = anonymous(COUNT * PAGE, MADV_NOHUGEPAGE);
	anon = of_regions(buf);
	munmap(buf, COUNT * PAGE);
	lease(fd, F_RDLCK, 0, 0);
	before = of_regions(map);
	report("bytes", anon, "memory-region/anon");
	report("bytes", before, "memory-region/leased");
	report("bytes", before - anon, "memory-region/beside");
	munmap(map, COUNT * PAGE);
	close(fd);
	unlink(path);
	no_lease_elsewhere();
}
