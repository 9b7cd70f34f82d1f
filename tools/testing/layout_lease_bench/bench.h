/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What layout leases cost, in instructions, beside what one would use instead.
 *
 * The guest's processor takes one nanosecond for each instruction, and its time
 * stamp counter counts these (guest.sh -b): a difference of it is a number of
 * instructions, as long as the processor is not idle in between.
 *
 * Runs on a kernel without layout leases too, and leaves out what that does not
 * have. What it prints, a line each:
 *
 *	M NAME UNIT MEDIAN LEAST MOST ROUNDS	a measurement
 *	F NAME WHY				one that failed
 *	P NAME ROUNDS				profile.c has dumped that one
 *
 * The name is WHAT/HOW: reg-256/leased is the registration of 256 pages of a leased
 * file. bench-table relates them to each other as "goals" says.
 */
#ifndef __LAYOUT_LEASE_BENCH_H
#define __LAYOUT_LEASE_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#include "layout_lease_lib.h"

#define PAGE	4096UL
#define KB	1024UL
#define MB	(1024 * KB)

#define ACCESS	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | \
		 IBV_ACCESS_REMOTE_READ)
#define ODP	IBV_ACCESS_ON_DEMAND

extern const char *dax1, *dax2;		/* mount points of DAX filesystems */
extern bool has_leases;			/* this kernel */
extern struct ll_rdma rdma;		/* if bench_rdma() */

/*
 * A measurement, and how often it is repeated. What is between begin() and end()
 * counts; end() takes what the system call returned, for which < 0 is a failure.
 *
 *	measure(9, "truncate/%s", how) {
 *		prepare();
 *		begin();
 *		err = ftruncate(fd, 0);
 *		end(err);
 *	}
 */
#define measure(rounds, ...)						\
	for (measure_start(rounds, __VA_ARGS__); measure_next(); )

void measure_start(int rounds, const char *name, ...)
	__attribute__((format(printf, 2, 3)));
bool measure_next(void);
void begin(void);
void end(long result);
/* The same, measured in another way. */
void report(const char *unit, long value, const char *name, ...)
	__attribute__((format(printf, 3, 4)));
void failed(const char *why, const char *name, ...)
	__attribute__((format(printf, 2, 3)));
/* Is any measurement wanted whose name begins so? */
bool wanted(const char *prefix);

/* Nothing is left to be done, and the next tick of the clock is 3 ms away. */
void settle(void);
unsigned long now(void);	/* in nanoseconds */

bool bench_rdma(void);		/* is there a device? */
bool bench_odp(void);		/* that can do without pinning */

/* The peer has one done, and both have waited for it without sleeping; or < 0. */
int rdma_operation(enum ibv_wr_opcode op, char *local, unsigned int lkey, size_t len,
		   char *remote, unsigned int rkey);

/* Files */
int new_file(const char *path, size_t size);	/* with blocks, if it has a size */
int scattered_file(const char *path, unsigned int pages);
char *map_file(int fd, size_t size, int prot);
void store(char *map, size_t size);		/* a byte into each page */
/* By stores: dirty, but not mapped any more; in 2 MiB if the blocks are aligned. */
void fill(int fd, size_t size);
void fill_small(int fd, size_t size);
char *anonymous(size_t size, int advice);
int device_dax(void);
int lease(int fd, int type, unsigned long start, unsigned long len);
/* Another process has a lease on a file that nobody measures, and none any more. */
void lease_elsewhere(void);
void no_lease_elsewhere(void);

void everybody(void);
void everybody_beside(void);
void reg(void);
void fsyncs(void);
void leases(void);
void transfer(void);
void breaks(void);
void deadlines(void);
void together(void);
void memory(void);

#endif /* __LAYOUT_LEASE_BENCH_H */
