// SPDX-License-Identifier: GPL-2.0
/*
 * The state of the world, what was wrong with it, and its dice.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

struct world *world;
struct report *report;
struct me me;

const __u64 points[PIECES] = {
	0, 1, 4095, 4096, 4097, MB2 - 1, MB2, MB2 + 4096, 2 * MB2,
	2 * MB2 + 1, 3 * MB2, (1ULL << 40), (1ULL << 63) - MB2,
	(1ULL << 63) - 1, 1ULL << 63,
};

unsigned int point(__u64 offset)
{
	unsigned int i;

	for (i = 0; i < PIECES && points[i] != offset; i++)
		;
	return i;
}

void complain(const char *format, ...)
{
	va_list args;

	if (report->failed)
		return;
	va_start(args, format);
	vsnprintf(report->what, sizeof(report->what), format, args);
	va_end(args);
	report->failed = true;
}

void count_answer(int error)
{
	if (error < (int)ARRAY_SIZE(report->answers))
		report->answers[error]++;
}

static __u64 next_random(__u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1dULL >> 16;
}

/* Random, but never 0, and another one for each n. */
__u64 seeded(__u64 seed, unsigned int n)
{
	__u64 state = (seed + n + 1) * 0x9e3779b97f4a7c15ULL;
	int i;

	state = state ?: 1;
	for (i = 0; i < 4; i++)
		next_random(&state);
	return state;
}

__u64 random_bits(void)
{
	return next_random(&world->random);
}

unsigned int dice(unsigned int sides)
{
	return random_bits() % sides;
}

bool once_in(unsigned int n)
{
	return dice(n) == 0;
}

int make_world(__u64 seed, long calls)
{
	world = ll_shared(sizeof(*world));
	report = ll_shared(sizeof(*report));
	if (world == MAP_FAILED || report == MAP_FAILED)
		return -ENOMEM;
	world->random = seeded(seed, 0);
	world->limit = NO_LIMIT;
	world->total = calls;
	return 0;
}

int leave_world(__u64 random)
{
	struct world *mine = malloc(sizeof(*mine));

	if (!mine)
		return -ENOMEM;
	memcpy(mine, world, sizeof(*mine));
	world = mine;
	world->random = random;
	return 0;
}
