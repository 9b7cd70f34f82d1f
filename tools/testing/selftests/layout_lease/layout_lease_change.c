// SPDX-License-Identifier: GPL-2.0
/*
 * Changes of the layout of files, see layout_lease_change.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/ext4.h>
#include <linux/fs.h>

#include "layout_lease_change.h"

struct xfs_bstime {
	long tv_sec;
	__s32 tv_nsec;
};

struct xfs_bstat {
	__u64 bs_ino;
	__u16 bs_mode, bs_nlink;
	__u32 bs_uid, bs_gid, bs_rdev;
	__s32 bs_blksize;
	__s64 bs_size;
	struct xfs_bstime bs_atime, bs_mtime, bs_ctime;
	__s64 bs_blocks;
	__u32 bs_xflags;
	__s32 bs_extsize, bs_extents;
	__u32 bs_gen;
	__u16 bs_projid_lo, bs_forkoff, bs_projid_hi, bs_sick, bs_checked;
	unsigned char bs_pad[2];
	__u32 bs_cowextsize, bs_dmevmask;
	__u16 bs_dmstate, bs_aextents;
};

struct xfs_swapext {
	__s64 sx_version, sx_fdtarget, sx_fdtmp, sx_offset, sx_length;
	char sx_pad[16];
	struct xfs_bstat sx_stat;
};

struct xfs_exchange_range {
	__s32 file1_fd;
	__u32 pad;
	__u64 file1_offset, file2_offset, length, flags;
};

struct xfs_scrub_metadata {
	__u32 sm_type, sm_flags;
	__u64 sm_ino;		/* 0: of the file descriptor */
	__u32 sm_gen, sm_agno;
	__u64 sm_reserved[5];
};

#define XFS_IOC_SCRUB_METADATA	_IOWR('X', 60, struct xfs_scrub_metadata)
#define XFS_IOC_SWAPEXT		_IOWR('X', 109, struct xfs_swapext)
#define XFS_IOC_EXCHANGE_RANGE	_IOW('X', 129, struct xfs_exchange_range)

static int result(int ret)
{
	return ret < 0 ? -errno : ret;
}

int ll_clone_range(int from, off_t off, off_t len, int to, off_t to_off)
{
	struct file_clone_range range = {
		.src_fd = from,
		.src_offset = off,
		.src_length = len,
		.dest_offset = to_off,
	};

	return result(ioctl(to, FICLONERANGE, &range));
}

int ll_dedupe(int from, off_t off, off_t len, int to, off_t to_off)
{
	struct {
		struct file_dedupe_range range;
		struct file_dedupe_range_info info;
	} arg = {
		.range = {
			.src_offset = off,
			.src_length = len,
			.dest_count = 1,
		},
		.info = {
			.dest_fd = to,
			.dest_offset = to_off,
		},
	};

	return ioctl(from, FIDEDUPERANGE, &arg) ? -errno : arg.info.status;
}

int ll_exchange(int file2, off_t off2, off_t len, int file1, off_t off1,
		__u64 flags)
{
	struct xfs_exchange_range range = {
		.file1_fd = file1,
		.file1_offset = off1,
		.file2_offset = off2,
		.length = len,
		.flags = flags,
	};

	return result(ioctl(file2, XFS_IOC_EXCHANGE_RANGE, &range));
}

int ll_swapext(int fd, off_t off, off_t len, int tmp)
{
	struct xfs_swapext arg = {
		.sx_fdtarget = fd,
		.sx_fdtmp = tmp,
		.sx_offset = off,
		.sx_length = len,
	};
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	arg.sx_stat.bs_mtime.tv_sec = st.st_mtim.tv_sec;
	arg.sx_stat.bs_mtime.tv_nsec = st.st_mtim.tv_nsec;
	arg.sx_stat.bs_ctime.tv_sec = st.st_ctim.tv_sec;
	arg.sx_stat.bs_ctime.tv_nsec = st.st_ctim.tv_nsec;
	return result(ioctl(fd, XFS_IOC_SWAPEXT, &arg));
}

/* XFS_IOC_SCRUB_METADATA of XFS_SCRUB_TYPE_BMBTD, the data fork */
static int scrub(int fd, __u32 flags)
{
	struct xfs_scrub_metadata scrub = { .sm_type = 12, .sm_flags = flags };

	return result(ioctl(fd, XFS_IOC_SCRUB_METADATA, &scrub));
}

/* XFS_SCRUB_IFLAG_REPAIR */
int ll_repair(int fd)
{
	return scrub(fd, 1);
}

/* The same and XFS_SCRUB_IFLAG_FORCE_REBUILD */
int ll_rebuild(int fd)
{
	return scrub(fd, 1 | 1 << 8);
}

int ll_swap_boot(int fd)
{
	return result(ioctl(fd, EXT4_IOC_SWAP_BOOT));
}

int ll_move_ext(int fd, off_t off, off_t len, int donor)
{
	struct move_extent arg = {
		.donor_fd = donor,
		.orig_start = off / ll_pg,
		.donor_start = off / ll_pg,
		.len = len / ll_pg,
	};

	return result(ioctl(fd, EXT4_IOC_MOVE_EXT, &arg));
}

int ll_call_truncate(const struct ll_call *call)
{
	return result(truncate(call->path, call->len));
}

int ll_call_ftruncate(const struct ll_call *call)
{
	return result(ftruncate(call->fd, call->len));
}

int ll_call_open(const struct ll_call *call)
{
	int fd = open(call->path, call->mode);

	return result(fd < 0 ? fd : close(fd));
}

int ll_call_fallocate(const struct ll_call *call)
{
	return result(fallocate(call->fd, call->mode, call->off, call->len));
}

int ll_call_clone(const struct ll_call *call)
{
	if (!call->len)
		return result(call->to ?
			      ioctl(call->fd, FICLONE, call->other_fd) :
			      ioctl(call->other_fd, FICLONE, call->fd));
	if (call->to)
		return ll_clone_range(call->other_fd, call->other_off,
				      call->len, call->fd, call->off);
	return ll_clone_range(call->fd, call->off, call->len, call->other_fd,
			      call->other_off);
}

int ll_call_dedupe(const struct ll_call *call)
{
	if (call->to)
		return ll_dedupe(call->other_fd, call->other_off, call->len,
				 call->fd, call->off);
	return ll_dedupe(call->fd, call->off, call->len, call->other_fd,
			 call->other_off);
}

int ll_call_copy(const struct ll_call *call)
{
	int from = call->to ? call->other_fd : call->fd;
	int to = call->to ? call->fd : call->other_fd;
	loff_t in = call->to ? call->other_off : call->off;
	loff_t out = call->to ? call->off : call->other_off;
	long long left;
	ssize_t n;

	for (left = call->len; left > 0; left -= n) {
		n = copy_file_range(from, &in, to, &out, left, 0);
		if (n <= 0)
			return n ? -errno : -EIO;
	}
	return 0;
}

int ll_call_exchange(const struct ll_call *call)
{
	if (call->to)
		return ll_exchange(call->other_fd, call->other_off, call->len,
				   call->fd, call->off, call->mode);
	return ll_exchange(call->fd, call->off, call->len, call->other_fd,
			   call->other_off, call->mode);
}

int ll_call_swapext(const struct ll_call *call)
{
	if (call->to)
		return ll_swapext(call->other_fd, call->off, call->len,
				  call->fd);
	return ll_swapext(call->fd, call->off, call->len, call->other_fd);
}

int ll_call_rebuild(const struct ll_call *call)
{
	return ll_rebuild(call->fd);
}

static void caller(int sock, void *arg)
{
	struct ll_call call = *(const struct ll_call *)arg;
	struct rlimit limit = { call.fsize, call.fsize };
	struct ll_result res = {};

	if (call.nobody)
		res.ret = ll_drop_privileges();
	if (call.fsize) {
		signal(SIGXFSZ, SIG_IGN);
		if (setrlimit(RLIMIT_FSIZE, &limit))
			res.ret = -errno;
	}
	call.fd = call.other_fd = -1;
	if (call.path)
		call.fd = open(call.path, call.flags ?: O_RDWR);
	if (call.other)
		call.other_fd = open(call.other, call.other_flags ?: O_RDWR);
	ll_put(sock, res.ret);
	ll_get(sock, INT_MAX);
	res.ms = ll_now_ms();
	res.ret = call.fn(&call);
	res.ms = ll_now_ms() - res.ms;
	send(sock, &res, sizeof(res), MSG_NOSIGNAL);
	ll_get(sock, INT_MAX);
}

int ll_call_start(struct ll_proc *p, const struct ll_call *call)
{
	return ll_proc_start(p, caller, (void *)call) ?:
		ll_get(p->sock, LL_SOON_MS);
}

int ll_call_go(struct ll_proc *p)
{
	return ll_put(p->sock, 0);
}

long long ll_block(int fd, off_t offset, __u32 *flags)
{
	struct {
		struct fiemap map;
		struct fiemap_extent extent;
	} arg = {
		.map = {
			.fm_start = offset,
			.fm_length = 1,
			.fm_extent_count = 1,
		},
	};
	const struct fiemap_extent *e = &arg.extent;

	*flags = 0;
	if (ioctl(fd, FS_IOC_FIEMAP, &arg))
		return -errno;
	if (!arg.map.fm_mapped_extents || e->fe_logical > (__u64)offset)
		return 0;
	*flags = e->fe_flags;
	return e->fe_physical + (offset - e->fe_logical);
}

/* What the page has when it is written to, by write(2) and by the peer. */
static const char *region_wrong(struct ll_rdma *r, const char *path, int fd,
				off_t off, const struct ibv_mr *mr)
{
	static unsigned char byte;
	unsigned char *buf = (unsigned char *)r->buf;
	long long before, after;
	__u32 flags;
	char c;

	before = ll_block(fd, off, &flags);
	c = ++byte;
	if (pwrite(fd, &c, 1, off) != 1)
		return "write(2) fails";
	after = ll_block(fd, off, &flags);
	if (after != before)
		return "write(2) moves a block below a region";
	if (ll_rdma_read(r, mr->addr, mr->rkey, 1))
		return "the peer cannot read";
	if (buf[0] != byte)
		return "the region is not the file: a peer reads other data";
	if (ll_rdma_write(r, mr->addr, mr->rkey, 1, ++byte))
		return "the peer cannot write";
	if (ll_file_byte(path, off) != byte)
		return "the region is not the file: a peer writes elsewhere";
	return NULL;
}

const char *ll_lease_wrong(struct ll_rdma *r, const char *path, int fd,
			   off_t off, size_t len, const struct ibv_mr *mr)
{
	struct layout_lease lease;
	int other, ret;
	off_t at;
	__u32 flags;

	ret = ll_getlayout(fd, off, len, &lease);
	if (ret)
		return "F_GETLAYOUT fails";
	if (lease.state != LAYOUT_LEASE_GRANTED) {
		if (mr && lease.state != LAYOUT_LEASE_BREAKING &&
		    !ll_rkey_is_dead(r, mr->addr, mr->rkey))
			return "the lease is gone, the region is not";
		return NULL;
	}
	other = open(path, O_RDWR | O_CLOEXEC);
	ret = ll_lease(other, F_RDLCK, off, len);
	close(other);
	if (ret == -EOPNOTSUPP)
		return "granted, on a file that cannot be leased";
	for (at = off; at < off + (off_t)len; at += ll_pg) {
		ret = ll_block(fd, at, &flags) == 0;
		if (flags & LL_SHARED)
			return "granted, and blocks are shared";
		if (mr && (ret || flags & LL_UNWRITTEN))
			return "granted, and a page of the region has no data";
	}
	return mr ? region_wrong(r, path, fd, off, mr) : NULL;
}
