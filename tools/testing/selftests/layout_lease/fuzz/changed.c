// SPDX-License-Identifier: GPL-2.0
/*
 * The struct changes while the kernel reads it: its second half is on a page
 * that is missing until this thread has changed the first half.
 */
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "run.h"

struct change {
	int uffd;
	char *page;		/* the second one */
	struct layout_lease *lease;
	bool unmap;		/* the first page goes away, too */
};

static void *change_struct(void *arg)
{
	const struct change *c = arg;
	char half[4096];
	struct uffdio_copy copy = {
		.dst = (unsigned long)c->page,
		.src = (unsigned long)half,
		.len = sizeof(half),
	};
	struct uffd_msg msg;

	if (read(c->uffd, &msg, sizeof(msg)) != sizeof(msg))
		return NULL;
	memset(half, CANARY, sizeof(half));
	memset(half, 0, LAYOUT_LEASE_SIZE_VER0 / 2);
	if (c->unmap)
		munmap(c->page - sizeof(half), sizeof(half));
	else
		c->lease->size = sizeof(half);
	ioctl(c->uffd, UFFDIO_COPY, &copy);
	return NULL;
}

int call_changed(int fd, int cmd, bool unmap, char *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct change c = { .unmap = unmap };
	pthread_t thread;
	char *map;
	int ret;

	c.uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	if (c.uffd < 0)
		return -ENOSYS;
	map = mmap(NULL, 2 * ll_pg, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	c.page = map + ll_pg;
	c.lease = (void *)(c.page - LAYOUT_LEASE_SIZE_VER0 / 2);
	c.lease->size = LAYOUT_LEASE_SIZE_VER0;
	c.lease->type = cmd == F_GETLAYOUT ? F_UNLCK : F_RDLCK;
	reg.range.start = (unsigned long)c.page;
	reg.range.len = ll_pg;
	if (map == MAP_FAILED || ioctl(c.uffd, UFFDIO_API, &api) ||
	    ioctl(c.uffd, UFFDIO_REGISTER, &reg) ||
	    pthread_create(&thread, NULL, change_struct, &c))
		return -EIO;
	ret = fcntl(fd, cmd, c.lease) ? errno : 0;
	pthread_join(thread, NULL);
	memcpy(page, c.page, ll_pg);
	munmap(map, 2 * ll_pg);
	close(c.uffd);
	return ret;
}
