/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Changes of the layout of files, made by a process of its own when it is told;
 * and where the blocks of a file are.
 */
#ifndef __LAYOUT_LEASE_CHANGE_H
#define __LAYOUT_LEASE_CHANGE_H

#include <linux/fiemap.h>

#include "layout_lease_lib.h"

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES	0x80
#endif

#define LL_PUNCH	(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

/* <xfs/xfs_fs.h> may be missing or too old. */
#ifndef XFS_EXCHANGE_RANGE_TO_EOF
#define XFS_EXCHANGE_RANGE_TO_EOF	0x1
#define XFS_EXCHANGE_RANGE_DRY_RUN	0x4
#endif

/* 0 or -errno; of ll_dedupe() also FILE_DEDUPE_RANGE_DIFFERS. */
int ll_clone_range(int from, off_t off, off_t len, int to, off_t to_off);
int ll_dedupe(int from, off_t off, off_t len, int to, off_t to_off);
int ll_exchange(int file2, off_t off2, off_t len, int file1, off_t off1,
		__u64 flags);
int ll_swapext(int fd, off_t off, off_t len, int tmp);
int ll_repair(int fd);			/* online, of the data fork */
int ll_rebuild(int fd);			/* as if it needed that */
int ll_swap_boot(int fd);
int ll_move_ext(int fd, off_t off, off_t len, int donor);

/* O_RDONLY is 0. */
#define LL_READ		(O_RDONLY | O_CLOEXEC)

/*
 * Something that is done to one file, with another one or without. If it is
 * about two of them, and copies, @to says that it copies from the other one.
 */
struct ll_call {
	int (*fn)(const struct ll_call *call);	/* 0 or more, or -errno */
	const char *path, *other;
	int flags, other_flags;		/* of their open; 0: O_RDWR, LL_READ */
	bool to;
	int mode;			/* of fallocate, open, exchange range */
	long long off, other_off, len;
	bool nobody;			/* by uid 65534 */
	long long fsize;		/* RLIMIT_FSIZE, if not 0 */
	int fd, other_fd;		/* in the process that does it */
};

int ll_call_truncate(const struct ll_call *call);	/* to len */
int ll_call_ftruncate(const struct ll_call *call);
int ll_call_open(const struct ll_call *call);
int ll_call_fallocate(const struct ll_call *call);
int ll_call_clone(const struct ll_call *call);		/* len 0: FICLONE */
int ll_call_dedupe(const struct ll_call *call);
int ll_call_copy(const struct ll_call *call);		/* copy_file_range() */
int ll_call_exchange(const struct ll_call *call);
int ll_call_swapext(const struct ll_call *call);
int ll_call_rebuild(const struct ll_call *call);

/*
 * A process that opens the files, and does it when told. ll_done() tells how it
 * went. @call must stay until ll_call_start() has returned.
 */
int ll_call_start(struct ll_proc *p, const struct ll_call *call);
int ll_call_go(struct ll_proc *p);

/*
 * Where a page of a file is on its device, in bytes; 0: nowhere. And whether
 * other files have it too, or it has no data yet.
 */
#define LL_SHARED	FIEMAP_EXTENT_SHARED
#define LL_UNWRITTEN	FIEMAP_EXTENT_UNWRITTEN
long long ll_block(int fd, off_t offset, __u32 *flags);

/*
 * NULL, or what is wrong with a lease and a region of len bytes at off: if the
 * lease is said to be granted, the blocks are the file's own, do not move, and
 * the region is these; if it is not, the region is dead. Writes to the first of
 * these pages. @mr may be NULL.
 */
const char *ll_lease_wrong(struct ll_rdma *r, const char *path, int fd,
			   off_t off, size_t len, const struct ibv_mr *mr);

#endif /* __LAYOUT_LEASE_CHANGE_H */
