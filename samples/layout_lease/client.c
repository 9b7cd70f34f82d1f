// SPDX-License-Identifier: GPL-2.0
/*
 * An RDMA client that writes into the server's memory region without a pause,
 * until it is told that it must not.
 *
 *   client SOCKET          stops at the first error
 *   client SOCKET stubborn then reconnects and writes on with the old key. After
 *                          SIGUSR1 it makes ten more attempts and exits.
 *
 * Each page that it writes begins with the number of the write and with the
 * time in ms, and is filled with the number.
 */
#include <infiniband/verbs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "demo.h"

#define PAGE 4096

static struct rdma rdma;
static struct address server;
static struct ibv_mr *mr;
static __u64 page[PAGE / 8];

static int dial(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (sock < 0 || connect(sock, (void *)&addr, sizeof(addr)))
		die(path);
	return sock;
}

/* A new queue pair on both sides; the server's region stays what it is. */
static void meet_server(int sock)
{
	struct address mine = {};

	rdma_new_qp(&rdma, &mine);
	if (send(sock, &mine, sizeof(mine), MSG_NOSIGNAL) != sizeof(mine) ||
	    recv(sock, &server, sizeof(server), MSG_WAITALL) != sizeof(server))
		die("the server is gone");
	rdma_connect(&rdma, &server);
}

static void pause_ms(int ms)
{
	struct timespec ts = { 0, ms * 1000000L };

	nanosleep(&ts, NULL);
}

/* Write number n: status of its completion. */
static enum ibv_wc_status write_page(unsigned long n)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)page,
		.length = sizeof(page),
		.lkey = mr->lkey,
	};
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_RDMA_WRITE,
		.sg_list = &sge,
		.num_sge = 1,
		.wr.rdma = {
			.remote_addr = server.addr + n * PAGE % server.len,
			.rkey = server.rkey,
		},
	};
	struct ibv_send_wr *bad;
	struct ibv_wc wc;
	unsigned int i;

	page[0] = n;
	page[1] = demo_ms();
	for (i = 2; i < PAGE / 8; i++)
		page[i] = n;
	if (ibv_post_send(rdma.qp, &wr, &bad))
		die("ibv_post_send");
	while (!ibv_poll_cq(rdma.cq, 1, &wc))
		pause_ms(1);
	return wc.status;
}

/* Ten attempts after SIGUSR1: what none of them may do is succeed. */
static int be_stubborn(int sock, unsigned long n, const sigset_t *set)
{
	static const struct timespec now;
	enum ibv_wc_status status;
	unsigned long attempts = 0;
	int left = -1;

	say("I reconnect and write on with the old key");
	while (left) {
		meet_server(sock);
		status = write_page(n++);
		attempts++;
		if (status != IBV_WC_REM_ACCESS_ERR) {
			say("attempt %lu: %s, which must not be", attempts,
			    ibv_wc_status_str(status));
			return 1;
		}
		if (left > 0)
			left--;
		else if (sigtimedwait(set, NULL, &now) == SIGUSR1)
			left = 10;
	}
	say("%lu attempts with the old key, all of them: %s", attempts,
	    ibv_wc_status_str(status));
	event("refused");
	return 0;
}

int main(int argc, char **argv)
{
	unsigned long n = 1, last = 0;
	enum ibv_wc_status status;
	sigset_t set;
	long next;
	int sock;

	demo_who = "client";
	if (argc < 2) {
		fprintf(stderr, "usage: client SOCKET [stubborn]\n");
		return 2;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);

	rdma_open(&rdma);
	mr = ibv_reg_mr(rdma.pd, page, sizeof(page), IBV_ACCESS_LOCAL_WRITE);
	if (!mr)
		die("ibv_reg_mr");
	sock = dial(argv[1]);
	meet_server(sock);
	say("connected, writing into %llu KiB at rkey %#x",
	    (unsigned long long)server.len / 1024, server.rkey);

	next = demo_ms() + 500;
	while ((status = write_page(n)) == IBV_WC_SUCCESS) {
		if (n++ == 1)
			event("writing");
		if (demo_ms() >= next) {
			say("%lu writes so far", n - 1);
			next = demo_ms() + 500;
		}
		last = demo_ms();
	}
	say("stopped: write %lu: %s (last success at %ld ms)", n,
	    ibv_wc_status_str(status), last);
	if (status != IBV_WC_REM_ACCESS_ERR)
		return 1;
	event("stopped");
	return argc > 2 ? be_stubborn(sock, n, &set) : 0;
}
