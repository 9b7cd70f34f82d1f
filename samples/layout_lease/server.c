// SPDX-License-Identifier: GPL-2.0
/*
 * An RDMA server whose memory region is a file of a DAX file system: clients
 * write into persistent memory without a copy. This is the example to start
 * from for an application of one's own.
 *
 *   server FILE SOCKET nolease|cooperative|silent
 *
 * What an application has to do:
 *
 *   1. Map the file MAP_SHARED, and write what it wants to be there first.
 *   2. Make an eventfd, which poll(), epoll and io_uring can wait for.
 *   3. Take a lease on the range that it is going to register, and give the
 *      eventfd with it.
 *   4. Register the region. It is pinned, so any RDMA device will do.
 *   5. When the eventfd is readable, somebody wants to truncate the file, say.
 *      Ask F_GETLAYOUT which pieces of the lease are being broken or were taken
 *      back, and how much time is left for each.
 *   6. Deregister, then unlock. Who does not do so within
 *      fs.layout-lease-break-time loses the region: its key is dead, and the
 *      eventfd counts once more. Deregistration works as ever.
 *   7. Take a new lease, and begin at 4, if the file still is of use.
 *
 * A dead key takes a reliable connection down: clients see a remote access
 * error and have to reconnect. An application would ask its clients to stop
 * before it deregisters.
 */
#include <errno.h>
#include <infiniband/verbs.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "demo.h"

/* Steps 2 and 3: descriptor that becomes readable when the lease is broken. */
static int take_lease(int fd, __u64 len)
{
	struct layout_lease lease = {
		.size = sizeof(lease),
		.flags = LAYOUT_LEASE_EVENTFD,
		.type = F_RDLCK,	/* others may hold one, too */
		.start = 0,
		.len = len,
		.event_fd = eventfd(0, EFD_CLOEXEC),
	};

	if (lease.event_fd < 0)
		die("eventfd");
	if (fcntl(fd, F_SETLAYOUT, &lease))
		die("F_SETLAYOUT");
	return lease.event_fd;
}

/* Step 4. */
static struct ibv_mr *register_file(struct rdma *rdma, void *map, size_t len)
{
	return ibv_reg_mr(rdma->pd, map, len,
			  IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
}

/*
 * Step 5: what becomes of the lease, piece by piece. Our only memory region overlaps
 * each of them, so what counts is whether one is gone, and by when the first one goes.
 */
struct news {
	int revoked;
	unsigned int remaining_ms;	/* UINT_MAX: nothing is being broken */
};

static struct news get_news(int fd)
{
	struct layout_lease piece = {
		.size = sizeof(piece),
		.flags = LAYOUT_LEASE_BROKEN,
	};
	struct news news = { .remaining_ms = UINT_MAX };

	while (!fcntl(fd, F_GETLAYOUT, &piece) && piece.state != LAYOUT_LEASE_NONE) {
		if (piece.state == LAYOUT_LEASE_REVOKED)
			news.revoked = 1;
		else if (piece.remaining_ms < news.remaining_ms)
			news.remaining_ms = piece.remaining_ms;
		piece.flags |= LAYOUT_LEASE_NEXT;
	}
	return news;
}

/* Step 6. */
static void let_go(int fd, struct ibv_mr *mr)
{
	struct layout_lease lease = {
		.size = sizeof(lease),
		.type = F_UNLCK,
	};

	errno = ibv_dereg_mr(mr);
	if (errno)
		die("ibv_dereg_mr");
	if (fcntl(fd, F_SETLAYOUT, &lease))
		die("F_SETLAYOUT, F_UNLCK");
}

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	unlink(path);
	if (sock < 0 || bind(sock, (void *)&addr, sizeof(addr)) ||
	    listen(sock, 1))
		die(path);
	return sock;
}

/* A client (re)connects: false when it is gone. */
static int meet_client(int conn, struct rdma *rdma, const struct address *mr)
{
	struct address peer, mine = *mr;

	if (recv(conn, &peer, sizeof(peer), MSG_WAITALL) != sizeof(peer))
		return 0;
	rdma_new_qp(rdma, &mine);
	rdma_connect(rdma, &peer);
	return send(conn, &mine, sizeof(mine), MSG_NOSIGNAL) == sizeof(mine);
}

static int without_lease(struct rdma *rdma, void *map, size_t len)
{
	struct ibv_mr *mr = register_file(rdma, map, len);

	if (mr) {
		say("ibv_reg_mr succeeded, which it must not");
		return 1;
	}
	if (errno != EOPNOTSUPP)
		die("ibv_reg_mr");
	say("ibv_reg_mr: %s. As on any kernel: nobody could take", strerror(errno));
	say("the pages back, so truncate would hang");
	event("refused");
	return 0;
}

int main(int argc, char **argv)
{
	struct address mr_address = {};
	struct pollfd pfd[2] = {};
	struct news news;
	struct ibv_mr *mr;
	struct rdma rdma;
	struct stat st;
	int fd, sock, silent;
	__u64 count;
	void *map;

	demo_who = "server";
	if (argc != 4) {
		fprintf(stderr, "usage: server FILE SOCKET nolease|cooperative|silent\n");
		return 2;
	}
	silent = !strcmp(argv[3], "silent");

	rdma_open(&rdma);
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		die(argv[1]);
	map = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die("mmap");
	if (!strcmp(argv[3], "nolease"))
		return without_lease(&rdma, map, st.st_size);

	pfd[0].fd = take_lease(fd, 0);
	pfd[0].events = POLLIN;
	say("F_SETLAYOUT: I hold a lease on the whole file");
	event("leased");
	mr = register_file(&rdma, map, st.st_size);
	if (!mr)
		die("ibv_reg_mr");
	say("ibv_reg_mr: %ld KiB of the file, rkey %#x",
	    (long)mr->length / 1024, mr->rkey);
	event("registered");
	mr_address.addr = (uintptr_t)map;
	mr_address.len = mr->length;
	mr_address.rkey = mr->rkey;

	sock = listen_at(argv[2]);
	event("ready");
	pfd[1].fd = accept(sock, NULL, NULL);
	pfd[1].events = POLLIN;
	for (;;) {
		if (poll(pfd, 2, -1) < 0)
			die("poll");
		if (pfd[1].revents && !meet_client(pfd[1].fd, &rdma, &mr_address))
			break;
		if (!(pfd[0].revents & POLLIN))
			continue;
		if (read(pfd[0].fd, &count, sizeof(count)) != sizeof(count))
			die("eventfd");
		news = get_news(fd);

		if (news.remaining_ms == UINT_MAX) {
			if (!mr || !news.revoked)
				continue;
			say("event: my memory region is revoked");
			event("revoked");
		} else if (silent) {
			say("event: %u ms left to let go. I do nothing",
			    news.remaining_ms);
			event("told");
		} else {
			say("event: %u ms left to let go", news.remaining_ms);
			event("told");
			let_go(fd, mr);
			mr = NULL;
			say("deregistered the memory region and unlocked");
			event("released");
		}
	}

	if (mr) {
		let_go(fd, mr);
		say("ibv_dereg_mr of the revoked region: success");
		event("deregistered");
	}
	return 0;
}
