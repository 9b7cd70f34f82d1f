// SPDX-License-Identifier: GPL-2.0
/*
 * Output of the demonstration.
 *
 * Environment: DEMO_START, milliseconds since the epoch; DEMO_EVENTS, a file
 * that collects what happened when; DEMO_ACT, prefix of the names in there.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "demo.h"

const char *demo_who = "?";

long demo_ms(void)
{
	const char *start = getenv("DEMO_START");
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000 -
	       (start ? strtol(start, NULL, 10) : 0);
}

void say(const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* One call, so that lines of several processes do not mix. */
	printf("[%6ld ms] %-14s %s\n", demo_ms(), demo_who, text);
	fflush(stdout);
}

void event(const char *name)
{
	const char *path = getenv("DEMO_EVENTS");
	const char *act = getenv("DEMO_ACT");
	FILE *f = path ? fopen(path, "a") : NULL;

	if (!f)
		return;
	fprintf(f, "%s.%s %ld\n", act ? act : "0", name, demo_ms());
	fclose(f);
}

void die(const char *what)
{
	say("%s: %s", what, strerror(errno));
	exit(1);
}
