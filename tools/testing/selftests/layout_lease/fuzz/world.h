/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The state of the world: which files are open and who has which leases. All
 * processes share it, as long as they take turns.
 */
#ifndef __FUZZ_WORLD_H
#define __FUZZ_WORLD_H

#include "../layout_lease_lib.h"

#define LIMIT_SYSCTL	"/proc/sys/user/max_layout_leases"
#define NO_LIMIT	1000000
#define MB2		(2ULL << 20)	/* breaks are rounded to this */

#define PROCS		4	/* that take turns, */
#define UNPRIVILEGED	3	/* this one without privileges, */
#define MAX_LIVE	(PROCS + 1)	/* and a child of one of them */
#define SLOTS		20	/* file descriptors of a process */
#define DESCS		128	/* open file descriptions */

/* What is opened. */
enum file {
	DAX,			/* of root, everybody may write */
	DAX_NOBODY,		/* of the user nobody, has no name */
	TMPFS,
	DIRECTORY,
	DEVICE,
	PIPE,
	SOCKET,
	PATH_ONLY,		/* DAX with O_PATH */
	FILES
};

static inline bool is_dax(enum file file)
{
	return file == DAX || file == DAX_NOBODY;
}

static inline bool is_regular(enum file file)
{
	return is_dax(file) || file == TMPFS;
}

/*
 * Ranges begin and end at these offsets, so that a lease is a number of pieces
 * between two of them. The last piece reaches to infinity. Breaks are rounded
 * to some of them.
 */
#define PIECES		15
#define END		(PIECES - 1)	/* where a finite range can end */

extern const __u64 points[PIECES];

unsigned int point(__u64 offset);	/* its number, or PIECES */

struct piece {
	__u32 id;		/* of the lease, 0: none */
	__u16 kind;
	__u16 state;
};

/* An open file description and its leases. */
struct desc {
	enum file file;
	bool writable;
	int refs;
	int holder;		/* serial of a process; 0: no leases */
	bool nobody;		/* pays for the leases */
	struct piece piece[PIECES];
};

struct world {
	__u64 random;
	long calls, total;
	int serial, live[MAX_LIVE];
	__u32 id;
	long limit;
	struct desc desc[DESCS];
};

extern struct world *world;

/* The first thing that was wrong, for the test. */
struct report {
	bool failed;
	char what[512];
	long calls;
	long answers[134];	/* by errno */
};

extern struct report *report;

void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
void count_answer(int error);

/* This process. */
struct me {
	int serial;
	bool privileged;
	int fd[SLOTS], desc[SLOTS];
};

extern struct me me;

/* A world without files, shared with all processes that are forked then. */
int make_world(__u64 seed, long calls);
/* From now on this process has its own. */
int leave_world(__u64 random);

/* Random numbers: those of the world. */
__u64 seeded(__u64 seed, unsigned int n);
__u64 random_bits(void);
unsigned int dice(unsigned int sides);
bool once_in(unsigned int n);

#define PICK(array)	((array)[dice(ARRAY_SIZE(array))])

#endif /* __FUZZ_WORLD_H */
