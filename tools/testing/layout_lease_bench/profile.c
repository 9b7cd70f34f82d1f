// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin of the emulator (QEMU, plugin API 1): counts the instructions of the guest
 * by address, between two marks in the program, see mark() in bench.c. Idle time is
 * not in it, and what interrupts do is.
 *
 *	-plugin profile.so,out=FILE
 *
 * Each dump is a line "D NUMBER INSTRUCTIONS", and a line "ADDRESS INSTRUCTIONS" for
 * each address.
 *
 * The declarations are those of qemu-plugin.h, which not every system installs.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT	__attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
		void (*cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb,
						 size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn,
		enum qemu_plugin_op op, void *counter, uint64_t number);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
		void (*cb)(unsigned int cpu, void *data),
		enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id,
		void (*cb)(qemu_plugin_id_t id, void *data), void *data);

EXPORT int qemu_plugin_version = 1;

/* A hash table that only grows; the emulated code has the addresses of counts. */
#define SLOTS	(1u << 22)

static struct slot {
	uint64_t address;
	uint64_t count;		/* since the start */
	uint64_t before;	/* the same at the last start mark */
	uint64_t counted;	/* between marks, since the last dump */
} slots[SLOTS];
static unsigned int order[SLOTS], used;
static unsigned int dumps;
static bool counting;
static FILE *out;

static struct slot *slot_of(uint64_t address)
{
	unsigned int i = (address * 0x9e3779b97f4a7c15) >> 42;

	while (slots[i].address && slots[i].address != address)
		i = (i + 1) % SLOTS;
	if (!slots[i].address) {
		slots[i].address = address;
		order[used++] = i;
	}
	return &slots[i];
}

static void start(void)
{
	unsigned int i;

	for (i = 0; i < used; i++)
		slots[order[i]].before = slots[order[i]].count;
	counting = true;
}

static void stop(void)
{
	struct slot *s;
	unsigned int i;

	for (i = 0; counting && i < used; i++) {
		s = &slots[order[i]];
		s->counted += s->count - s->before;
	}
	counting = false;
}

static void dump(void)
{
	uint64_t total = 0;
	struct slot *s;
	unsigned int i;

	for (i = 0; i < used; i++)
		total += slots[order[i]].counted;
	fprintf(out, "D %u %lu\n", dumps++, total);
	for (i = 0; i < used; i++) {
		s = &slots[order[i]];
		if (s->counted)
			fprintf(out, "%lx %lu\n", s->address, s->counted);
		s->counted = 0;
	}
	fflush(out);
}

static void mark(unsigned int cpu, void *data)
{
	(void)cpu;
	switch ((uintptr_t)data) {
	case 1:
		start();
		break;
	case 2:
		stop();
		break;
	case 3:
		dump();
		break;
	}
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb), i;
	struct qemu_plugin_insn *insn;
	const unsigned char *code;

	(void)id;
	for (i = 0; i < n; i++) {
		insn = qemu_plugin_tb_get_insn(tb, i);
		code = qemu_plugin_insn_data(insn);
		qemu_plugin_register_vcpu_insn_exec_inline(insn,
			QEMU_PLUGIN_INLINE_ADD_U64,
			&slot_of(qemu_plugin_insn_vaddr(insn))->count, 1);
		if (qemu_plugin_insn_size(insn) == 7 &&
		    !memcmp(code, "\x0f\x1f\x80", 3) &&
		    !memcmp(code + 4, "\x00\x46\x50", 3))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, mark,
				QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)code[3]);
	}
}

static void end(qemu_plugin_id_t id, void *data)
{
	(void)id;
	(void)data;
	fclose(out);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
			       char **argv)
{
	(void)info;
	if (argc == 1 && !strncmp(argv[0], "out=", 4))
		out = fopen(argv[0] + 4, "w");
	if (!out)
		return 1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	qemu_plugin_register_atexit_cb(id, end, NULL);
	return 0;
}
