// SPDX-License-Identifier: GPL-2.0
/*
 * bench GROUP...: measures these groups, see bench.h.
 *
 * Environment: DAX1, DAX2 and RDMA_DEV as for the selftests; BENCH_ONLY, the only
 * measurement to take.
 */
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "bench.h"

#define MAX_ROUNDS	64
#define TICK		4000000UL	/* nanoseconds */

const char *dax1, *dax2;
bool has_leases;
struct ll_rdma rdma;

static const char *rdma_missing;
static const char *only;
static bool any_failed;

static struct {
	char name[128];
	unsigned long count[MAX_ROUNDS];
	unsigned long start;
	int rounds, done;
	bool skip;
} m;

/*
 * What profile.c looks for: a nop of seven bytes with such a number in it.
 * 1: count, 2: stop counting, 3: what was counted is of the line P that follows.
 */
#define mark(n) \
	asm volatile(".byte 0x0f, 0x1f, 0x80, " #n ", 0x00, 0x46, 0x50" ::: "memory")

static inline unsigned long counter(void)
{
	unsigned int low, high;

	asm volatile("lfence; rdtsc" : "=a" (low), "=d" (high) :: "memory");
	return (unsigned long)high << 32 | low;
}

unsigned long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000UL + t.tv_nsec;
}

/*
 * Whatever was put off is done while the processor would be idle, which takes no
 * time in the host. Then each round begins at the same moment between two ticks, so
 * that what takes less than 3 million instructions meets none.
 */
void settle(void)
{
	unsigned long t = now() + 2 * TICK;
	struct timespec until;

	t = t - t % (5 * TICK) + 5 * TICK + TICK / 8;
	until.tv_sec = t / 1000000000;
	until.tv_nsec = t % 1000000000;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

bool wanted(const char *prefix)
{
	return !only || !strncmp(only, prefix, strlen(prefix));
}

void measure_start(int rounds, const char *name, ...)
{
	va_list args;

	va_start(args, name);
	vsnprintf(m.name, sizeof(m.name), name, args);
	va_end(args);
	m.rounds = rounds < MAX_ROUNDS ? rounds : MAX_ROUNDS;
	m.done = 0;
	m.skip = only && strcmp(only, m.name);
}

static int compare(const void *a, const void *b)
{
	unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;

	return x < y ? -1 : x > y;
}

bool measure_next(void)
{
	if (m.skip)
		return false;
	if (m.done < m.rounds)
		return true;
	qsort(m.count, m.done, sizeof(*m.count), compare);
	printf("M %s instructions %lu %lu %lu %d\n", m.name, m.count[m.done / 2],
	       m.count[0], m.count[m.done - 1], m.done);
	mark(3);
	printf("P %s %d\n", m.name, m.done);
	return false;
}

void begin(void)
{
	settle();
	mark(1);
	m.start = counter();
}

void end(long result)
{
	int err = errno;

	m.count[m.done++] = counter() - m.start;
	mark(2);
	if (result >= 0)
		return;
	failed(strerror(err), "%s", m.name);
	m.skip = true;
}

void report(const char *unit, long value, const char *name, ...)
{
	char full[128];
	va_list args;

	va_start(args, name);
	vsnprintf(full, sizeof(full), name, args);
	va_end(args);
	if (!only || !strcmp(only, full))
		printf("M %s %s %ld %ld %ld 1\n", full, unit, value, value, value);
}

void failed(const char *why, const char *name, ...)
{
	va_list args;

	printf("F ");
	va_start(args, name);
	vprintf(name, args);
	va_end(args);
	printf(" %s\n", why);
	any_failed = true;
}

bool bench_rdma(void)
{
	static bool tried;

	if (!tried)
		rdma_missing = ll_rdma_open(&rdma);
	tried = true;
	return !rdma_missing;
}

bool bench_odp(void)
{
	return bench_rdma() && !rdma.iwarp;
}

static const struct {
	const char *name;
	void (*run)(void);
	bool rdma;
} groups[] = {
	{ "everybody", everybody, true },
	{ "beside", everybody_beside, true },
	{ "reg", reg, true },
	{ "fsync", fsyncs, true },
	{ "lease", leases, false },
	{ "transfer", transfer, true },
	{ "break", breaks, true },
	{ "deadline", deadlines, true },
	{ "together", together, true },
	{ "memory", memory, true },
};

int main(int argc, char **argv)
{
	struct rlimit files = { 300000, 300000 };
	unsigned int i;
	sigset_t set;
	int arg;

	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_TIMERSLACK, 1);
	dax1 = getenv("DAX1") ?: "/mnt/dax1";
	dax2 = getenv("DAX2") ?: "/mnt/dax2";
	only = getenv("BENCH_ONLY");
	ll_write_str("/proc/sys/fs/nr_open", "1000000");
	ll_write_str("/proc/sys/fs/file-max", "1000000");
	ll_write_str("/proc/sys/user/max_layout_leases", "1000000");
	setrlimit(RLIMIT_NOFILE, &files);
	/* Without taking one. */
	has_leases = !access(LL_GRACE_SYSCTL, F_OK);
	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);

	for (arg = 1; arg < argc; arg++) {
		for (i = 0; i < ARRAY_SIZE(groups); i++)
			if (!strcmp(argv[arg], groups[i].name))
				break;
		if (i == ARRAY_SIZE(groups)) {
			fprintf(stderr, "there is no group %s\n", argv[arg]);
			return 2;
		}
		if (groups[i].rdma && !bench_rdma()) {
			failed(rdma_missing, "%s", groups[i].name);
			continue;
		}
		/* No fault of the program itself is counted. */
		mlockall(MCL_CURRENT);
		groups[i].run();
	}
	return any_failed;
}
