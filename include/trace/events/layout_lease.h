/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Events of layout leases, see Documentation/filesystems/layout-leases.rst.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM layout_lease

#if !defined(_TRACE_LAYOUT_LEASE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_LAYOUT_LEASE_H

#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/layout_lease.h>
#include <linux/poll.h>
#include <linux/tracepoint.h>

#define show_lease_type(type)				\
	__print_symbolic(type,				\
			 { F_RDLCK, "shared" },		\
			 { F_WRLCK, "exclusive" },	\
			 { F_UNLCK, "none" })

#define show_break_flags(flags)						\
	__print_flags(flags, "|",					\
		      { LAYOUT_OP_NONBLOCK, "NONBLOCK" },		\
		      { LAYOUT_OP_LOCKED, "LOCKED" },			\
		      { LAYOUT_OP_NOW, "NOW" })

#define show_signal_reason(reason)			\
	__print_symbolic(reason,			\
			 { POLL_MSG, "break" },		\
			 { POLL_HUP, "revoked" })

/* The task of the event is the one that asks. */
DECLARE_EVENT_CLASS(layout_lease_request,
	TP_PROTO(const struct inode *inode, int type, u64 start, u64 last,
		 unsigned int flags, int error),

	TP_ARGS(inode, type, start, last, flags, error),

	TP_STRUCT__entry(
		__field(dev_t, s_dev)
		__field(u64, i_ino)
		__field(u64, start)
		__field(u64, len)
		__field(u16, type)
		__field(u32, flags)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->s_dev = inode->i_sb->s_dev;
		__entry->i_ino = inode->i_ino;
		__entry->start = start;
		__entry->len = last == U64_MAX ? 0 : last - start + 1;
		__entry->type = type;
		__entry->flags = flags;
		__entry->error = error;
	),

	TP_printk("dev=%02x:%02x ino=%llu type=%s start=%llu len=%llu flags=0x%x error=%d",
		  MAJOR(__entry->s_dev), MINOR(__entry->s_dev), __entry->i_ino,
		  show_lease_type(__entry->type), __entry->start, __entry->len,
		  __entry->flags, __entry->error)
);

DEFINE_EVENT(layout_lease_request, layout_lease_grant,
	TP_PROTO(const struct inode *inode, int type, u64 start, u64 last,
		 unsigned int flags, int error),
	TP_ARGS(inode, type, start, last, flags, error));

DEFINE_EVENT(layout_lease_request, layout_lease_deny,
	TP_PROTO(const struct inode *inode, int type, u64 start, u64 last,
		 unsigned int flags, int error),
	TP_ARGS(inode, type, start, last, flags, error));

DEFINE_EVENT(layout_lease_request, layout_lease_release,
	TP_PROTO(const struct inode *inode, int type, u64 start, u64 last,
		 unsigned int flags, int error),
	TP_ARGS(inode, type, start, last, flags, error));

/* The last reference of an open file is gone, and its leases with it. */
TRACE_EVENT(layout_lease_close,
	TP_PROTO(const struct inode *inode),

	TP_ARGS(inode),

	TP_STRUCT__entry(
		__field(dev_t, s_dev)
		__field(u64, i_ino)
	),

	TP_fast_assign(
		__entry->s_dev = inode->i_sb->s_dev;
		__entry->i_ino = inode->i_ino;
	),

	TP_printk("dev=%02x:%02x ino=%llu",
		  MAJOR(__entry->s_dev), MINOR(__entry->s_dev), __entry->i_ino)
);

TRACE_EVENT(layout_lease_attach,
	TP_PROTO(const struct inode *inode, u64 start, u64 last, int error),

	TP_ARGS(inode, start, last, error),

	TP_STRUCT__entry(
		__field(dev_t, s_dev)
		__field(u64, i_ino)
		__field(u64, start)
		__field(u64, last)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->s_dev = inode->i_sb->s_dev;
		__entry->i_ino = inode->i_ino;
		__entry->start = start;
		__entry->last = last;
		__entry->error = error;
	),

	TP_printk("dev=%02x:%02x ino=%llu start=%llu last=%llu error=%d",
		  MAJOR(__entry->s_dev), MINOR(__entry->s_dev), __entry->i_ino,
		  __entry->start, __entry->last, __entry->error)
);

/* Why something is EOPNOTSUPP; the task of the event is the one that asks. */
TRACE_EVENT(layout_lease_refuse,
	TP_PROTO(const struct inode *inode, u64 start, u64 last,
		 const char *why),

	TP_ARGS(inode, start, last, why),

	TP_STRUCT__entry(
		__field(dev_t, s_dev)
		__field(u64, i_ino)
		__field(u64, start)
		__field(u64, last)
		__string(why, why)
	),

	TP_fast_assign(
		__entry->s_dev = inode->i_sb->s_dev;
		__entry->i_ino = inode->i_ino;
		__entry->start = start;
		__entry->last = last;
		__assign_str(why);
	),

	TP_printk("dev=%02x:%02x ino=%llu start=%llu last=%llu why=%s",
		  MAJOR(__entry->s_dev), MINOR(__entry->s_dev), __entry->i_ino,
		  __entry->start, __entry->last, __get_str(why))
);

/* The task of the event is the breaker. */
TRACE_EVENT(layout_lease_break,
	TP_PROTO(const struct inode *inode, u64 start, u64 last,
		 unsigned int flags, unsigned long pending),

	TP_ARGS(inode, start, last, flags, pending),

	TP_STRUCT__entry(
		__field(dev_t, s_dev)
		__field(u64, i_ino)
		__field(u64, start)
		__field(u64, last)
		__field(unsigned int, flags)
		__field(unsigned long, pending)
	),

	TP_fast_assign(
		__entry->s_dev = inode->i_sb->s_dev;
		__entry->i_ino = inode->i_ino;
		__entry->start = start;
		__entry->last = last;
		__entry->flags = flags;
		__entry->pending = pending;
	),

	TP_printk("dev=%02x:%02x ino=%llu start=%llu last=%llu flags=%s pending=%lu",
		  MAJOR(__entry->s_dev), MINOR(__entry->s_dev), __entry->i_ino,
		  __entry->start, __entry->last,
		  show_break_flags(__entry->flags), __entry->pending)
);

TRACE_EVENT(layout_lease_break_waited,
	TP_PROTO(const struct inode *inode, u64 start, u64 last, u64 ms,
		 int error),

	TP_ARGS(inode, start, last, ms, error),

	TP_STRUCT__entry(
		__field(dev_t, s_dev)
		__field(u64, i_ino)
		__field(u64, start)
		__field(u64, last)
		__field(u64, ms)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->s_dev = inode->i_sb->s_dev;
		__entry->i_ino = inode->i_ino;
		__entry->start = start;
		__entry->last = last;
		__entry->ms = ms;
		__entry->error = error;
	),

	TP_printk("dev=%02x:%02x ino=%llu start=%llu last=%llu ms=%llu error=%d",
		  MAJOR(__entry->s_dev), MINOR(__entry->s_dev), __entry->i_ino,
		  __entry->start, __entry->last, __entry->ms, __entry->error)
);

TRACE_EVENT(layout_lease_signal,
	TP_PROTO(const struct inode *inode, pid_t holder, int signum,
		 int reason),

	TP_ARGS(inode, holder, signum, reason),

	TP_STRUCT__entry(
		__field(dev_t, s_dev)
		__field(u64, i_ino)
		__field(pid_t, holder)
		__field(int, signum)
		__field(int, reason)
	),

	TP_fast_assign(
		__entry->s_dev = inode->i_sb->s_dev;
		__entry->i_ino = inode->i_ino;
		__entry->holder = holder;
		__entry->signum = signum;
		__entry->reason = reason;
	),

	TP_printk("dev=%02x:%02x ino=%llu holder=%d signal=%d reason=%s",
		  MAJOR(__entry->s_dev), MINOR(__entry->s_dev), __entry->i_ino,
		  __entry->holder, __entry->signum,
		  show_signal_reason(__entry->reason))
);

TRACE_EVENT(layout_lease_revoke,
	TP_PROTO(const struct inode *inode, unsigned long count, u64 pages,
		 u64 us),

	TP_ARGS(inode, count, pages, us),

	TP_STRUCT__entry(
		__field(dev_t, s_dev)
		__field(u64, i_ino)
		__field(unsigned long, count)
		__field(u64, pages)
		__field(u64, us)
	),

	TP_fast_assign(
		__entry->s_dev = inode->i_sb->s_dev;
		__entry->i_ino = inode->i_ino;
		__entry->count = count;
		__entry->pages = pages;
		__entry->us = us;
	),

	TP_printk("dev=%02x:%02x ino=%llu regions=%lu pages=%llu us=%llu",
		  MAJOR(__entry->s_dev), MINOR(__entry->s_dev), __entry->i_ino,
		  __entry->count, __entry->pages, __entry->us)
);

#endif /* _TRACE_LAYOUT_LEASE_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
