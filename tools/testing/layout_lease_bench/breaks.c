// SPDX-License-Identifier: GPL-2.0
/* What who changes a file waits for: one holder, his deadline, many regions. */
#include "bench.h"

#define ROUNDS	9
#define SIZE	(4 * MB)
#define KEPT	(64 * KB)	/* by truncate() */

static char path[PATH_MAX];

/* A process that lets go as soon as it is told, or never. */
struct holder {
	bool layout;		/* or a plain lease */
	bool prompt;
	unsigned int files;	/* open files, each with a lease on all of it */
	unsigned int regions;	/* of each, on the pages behind KEPT */
	size_t pages;		/* of each of these */
};

#define HOLD	1	/* take all of it */
#define FREE	2	/* return all of it */
#define END	3

#define FOREVER	INT_MAX

static int take(const struct holder *h, struct ll_rdma *r, int *fd, struct ibv_mr **mr)
{
	unsigned int i, k, n = 0;
	char *map;

	for (i = 0; i < h->files; i++) {
		fd[i] = open(path, (h->layout ? O_RDWR : O_RDONLY) | O_CLOEXEC);
		fcntl(fd[i], F_SETSIG, SIGRTMIN);
		if (h->layout ? lease(fd[i], F_RDLCK, 0, 0) :
				fcntl(fd[i], F_SETLEASE, F_RDLCK))
			return -errno;
		if (!h->regions)
			continue;
		map = map_file(fd[i], SIZE, PROT_READ | PROT_WRITE);
		for (k = 0; k < h->regions; k++) {
			/* Many of them share pages. */
			mr[n] = ibv_reg_mr(r->pd, map + KEPT + k % 256 * PAGE,
					   h->pages * PAGE, ACCESS);
			if (!mr[n++])
				return -errno;
		}
		munmap(map, SIZE);
	}
	return 0;
}

static void give_back(const struct holder *h, int *fd, struct ibv_mr **mr)
{
	unsigned int i;

	for (i = 0; i < h->files * h->regions; i++)
		if (mr[i])
			ibv_dereg_mr(mr[i]);
	for (i = 0; i < h->files; i++)
		close(fd[i]);
}

static void holder(int sock, void *arg)
{
	const struct holder *h = arg;
	struct ibv_mr **mr = calloc(h->files * h->regions + 1, sizeof(*mr));
	int *fd = calloc(h->files, sizeof(*fd)), command;
	struct ll_rdma r;
	sigset_t set;
	siginfo_t si;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (h->regions && ll_rdma_device(&r))
		_exit(1);
	while ((command = ll_get(sock, FOREVER)) == HOLD) {
		ll_put(sock, take(h, &r, fd, mr));
		if (h->prompt)
			sigwaitinfo(&set, &si);
		else
			ll_get(sock, FOREVER);
		give_back(h, fd, mr);
		while (sigtimedwait(&set, &si, &(struct timespec){ 0 }) > 0)
			;
		ll_put(sock, 0);
	}
	_exit(0);
}

static bool start_holder(struct ll_proc *p, struct holder *h)
{
	return !ll_proc_start(p, holder, h);
}

static int hold(struct ll_proc *p)
{
	ll_put(p->sock, HOLD);
	return ll_get(p->sock, FOREVER);
}

static void end_holder(struct ll_proc *p)
{
	ll_put(p->sock, END);
	ll_proc_wait(p, LL_SOON_MS);
}

static void restore(void)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fallocate(fd, 0, 0, SIZE))
		failed(strerror(errno), "%s", path);
	close(fd);
}

static int change(void)
{
	return truncate(path, KEPT);
}

static void one_holder(const char *how, struct holder h)
{
	struct ll_proc p;
	int err;

	h.prompt = true;
	h.files = 1;
	if (!wanted("truncate/") || !start_holder(&p, &h))
		return;
	measure(ROUNDS, "truncate/%s", how) {
		restore();
		err = hold(&p);
		if (err) {
			failed(strerror(-err), "truncate/%s", how);
			break;
		}
		begin();
		end(change());
		ll_get(p.sock, LL_SOON_MS);
	}
	end_holder(&p);
}

static void own(const char *how, int access, bool leased)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char *map = map_file(fd, SIZE, PROT_READ | PROT_WRITE);
	struct ibv_mr *mr;

	measure(ROUNDS, "truncate/%s", how) {
		restore();
		if (leased)
			lease(fd, F_RDLCK, 0, 0);
		else
			store(map + KEPT, MB);
		mr = ibv_reg_mr(rdma.pd, map + KEPT, MB, access);
		if (!mr) {
			failed(strerror(errno), "truncate/%s", how);
			break;
		}
		begin();
		end(change());
		ibv_dereg_mr(mr);
		lease(fd, F_UNLCK, 0, 0);
	}
	munmap(map, SIZE);
	close(fd);
}

void breaks(void)
{
	snprintf(path, sizeof(path), "%s/break", dax1);
	close(new_file(path, SIZE));
	measure(ROUNDS, "truncate/nobody") {
		restore();
		begin();
		end(change());
	}
	one_holder("plain", (struct holder){});
	if (bench_odp())
		own("own-odp", ACCESS | ODP, false);
	if (has_leases) {
		one_holder("leased", (struct holder){ .layout = true });
		one_holder("leased-region", (struct holder){
			.layout = true, .regions = 1, .pages = MB / PAGE });
		own("own-region", ACCESS, true);
	}
	unlink(path);
}

/*
 * How long after the deadline a change has done what it waited to do. A deadline
 * is in whole milliseconds, so that less than one of them before it is in time.
 */
void deadlines(void)
{
	static const int grace[] = { 1, 5, 45 };
	struct holder h = { .layout = true, .files = 1, .regions = 1, .pages = 256 };
	struct ll_proc p;
	unsigned int i, n;
	unsigned long t;
	long late, most;

	if (!has_leases || !wanted("late-"))
		return;
	snprintf(path, sizeof(path), "%s/break", dax1);
	close(new_file(path, SIZE));
	if (!start_holder(&p, &h))
		return;
	for (i = 0; i < ARRAY_SIZE(grace); i++) {
		ll_set_grace(grace[i]);
		most = 0;
		for (n = 0; n < 5; n++) {
			restore();
			if (hold(&p))
				failed("no region", "late-%d/leased", grace[i]);
			/* At another moment between two ticks each time. */
			settle();
			usleep(n * 777);
			t = now();
			change();
			late = now() - t - grace[i] * 1000000000UL;
			if (late > most)
				most = late;
			ll_put(p.sock, FREE);
			ll_get(p.sock, LL_SOON_MS);
		}
		report("microseconds", most / 1000, "late-%d/leased", grace[i]);
	}
	ll_set_grace(45);
	end_holder(&p);
	unlink(path);
}

/*
 * All of it is taken from one who does not let go. Returns how long that takes, or 0.
 */
static unsigned long take_back(struct holder h, int grace)
{
	unsigned long t = 0;
	struct ll_proc p;

	if (!start_holder(&p, &h))
		return 0;
	restore();
	ll_set_grace(grace);
	if (!hold(&p)) {
		settle();
		t = now();
		t = change() ? 0 : now() - t;
	}
	ll_put(p.sock, FREE);
	ll_get(p.sock, FOREVER);
	end_holder(&p);
	return t;
}

static void silent(const char *what, unsigned int count, struct holder h)
{
	unsigned long at_once, late;

	if (!wanted("together-"))
		return;
	/* Without time to let go there is none in which the processor is idle. */
	at_once = take_back(h, 0);
	late = take_back(h, 1);
	if (!at_once || !late) {
		failed("not held, or not changed", "together-%u/%s", count, what);
		return;
	}
	report("instructions", at_once, "together-%u/%s", count, what);
	report("instructions", at_once / count, "together-each-%u/%s", count, what);
	report("microseconds", late / 1000, "together-time-%u/%s", count, what);
}

void together(void)
{
	static const unsigned int counts[] = { 1, 10, 100, 1000, 10000 };
	unsigned int i;

	if (!has_leases)
		return;
	snprintf(path, sizeof(path), "%s/break", dax1);
	close(new_file(path, SIZE));
	for (i = 0; i < ARRAY_SIZE(counts); i++)
		silent("regions", counts[i], (struct holder){
			.layout = true, .files = 1, .regions = counts[i], .pages = 1 });
	for (i = 0; i < 4; i++)
		silent("holders", counts[i], (struct holder){
			.layout = true, .files = counts[i], .regions = 1, .pages = 1 });
	ll_set_grace(45);
	unlink(path);
}
