/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of layout leases have in common: leases, RDMA over a loopback
 * pair of queue pairs, and a second process that breaks, leases or waits.
 *
 * Environment: DAX1 and DAX2, mount points of DAX filesystems (mounted with
 * -o dax=always); DAXFS, their type; RDMA_DEV, an RDMA device (default: the
 * first one). layout_lease.sh makes them.
 */
#ifndef __LAYOUT_LEASE_LIB_H
#define __LAYOUT_LEASE_LIB_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

#include <infiniband/verbs.h>
#include <linux/falloc.h>
#include <linux/layout_lease.h>

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(arr)	(sizeof(arr) / sizeof((arr)[0]))
#endif

#define LL_PAGES	256	/* length of the test files */
#define LL_SOON_MS	20000	/* "at once" on a slow, much instrumented machine */
#define LL_GRACE	120	/* seconds; nobody may wait that long by mistake */
#define LL_SLACK_MS	10000	/* a deadline may be late by this much */

#define LL_GRACE_SYSCTL	"/proc/sys/fs/layout-lease-break-time"
#define LL_PLAIN_GRACE	"/proc/sys/fs/lease-break-time"

extern size_t ll_pg;		/* page size */

/* Small things. Functions that return int return 0 or -errno. */
long ll_now_ms(void);
void ll_sleep_ms(long ms);
int ll_write_str(const char *path, const char *text);
int ll_write_long(const char *path, long value);
long ll_read_long(const char *path, long or_else);
void ll_set_grace(int seconds);
long ll_status_kb(const char *field);
long ll_env_number(const char *name, long or_else);	/* environment */
/* Random numbers of this process, which a seed and a number repeat. */
void ll_seed(__u64 seed, unsigned int n);
unsigned int ll_dice(unsigned int sides);
/* The CRC with this (reflected) polynomial of some more bytes, not inverted. */
__u32 ll_crc32(__u32 polynomial, __u32 crc, const void *buf, size_t len);
int ll_drop_privileges(void);
/* A shell command, as in printf(): 0, its exit status, or -1. */
int ll_sh(const char *format, ...) __attribute__((format(printf, 1, 2)));
int ll_sh_within(const char *cmd, int ms);	/* -1 if it takes longer */
int ll_sh_soon(const char *cmd);		/* within LL_SOON_MS */
/* The first line of what it prints. */
int ll_sh_line(char *line, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * A DAX filesystem: its device (pmem1), unmount it, make a new one, which
 * allocates by 2 MiB so that there are huge pages.
 */
int ll_source(char *dev, size_t size, const char *dir);
int ll_umount(const char *dir);
/* Its namespace, or the pfn device on it, which the driver can be taken from: soon. */
int ll_pmem_name(char *name, size_t size, const char *dev);
int ll_pmem_unbind(const char *name);
int ll_pmem_bind(const char *name, const char *dev);	/* and wait for the device */
/* A new directory to mount on, and what the file will be called there. */
#define LL_MOUNT_POINT	"/tmp/layout-lease-XXXXXX"
int ll_mount_point(char *dir, char path[PATH_MAX], const char *file);
int ll_new_filesystem(const char *dev, const char *dir);
/* The same for what is mounted at dir, whose device is told. */
int ll_renew_filesystem(char *dev, size_t size, const char *dir);
int ll_fsck(const char *dev);	/* 0: clean; it is not mounted */
bool ll_is_xfs(void);		/* DAX1 and DAX2 */
int ll_remount(const char *dir, const char *options);
/* A new directory (template as of mkdtemp()); files in it are DAX files. */
int ll_dax_dir(char *path);

/* Files: page n is filled with the byte (seed + n). */
int ll_mkfile(char *path, size_t size, const char *dir, unsigned int pages,
	      unsigned char seed);
int ll_make(const char *path, unsigned int pages, unsigned char seed);
int ll_fill(int fd, unsigned int pages, unsigned char seed);
int ll_file_byte(const char *path, off_t offset);
bool ll_file_is(const char *path, off_t offset, size_t len, unsigned char byte);
/* The beginning of the file is that within LL_SOON_MS. */
bool ll_soon_file_is(const char *path, size_t len, unsigned char byte);
char *ll_map(int fd, off_t offset, size_t len, int prot);
int ll_punch(int fd, off_t offset, off_t len);
int ll_set_immutable(int fd, bool on);
/*
 * So that freed blocks are used again: all but about so many bytes of the
 * filesystem go into one file, and later what was freed into another (its size). They
 * have no name, and go with the process.
 */
int ll_fill_up(const char *dir, long leave);
long ll_take_all(char path[32], const char *dir, unsigned char byte);
int ll_clone(const char *from, const char *to, off_t offset, size_t len);

/* Leases */
int ll_setlayout(int fd, int type, __u64 start, __u64 len,
		 unsigned int flags);
int ll_getlayout(int fd, __u64 start, __u64 len,
		 struct layout_lease *lease);
int ll_state(int fd);		/* of the first lease in the file, or -errno */
int ll_proc_locks(int fd);	/* lines LAYOUT of this inode in /proc/locks */
bool ll_gone(int fd);		/* such lines go away soon */
long ll_proc_leases(void);	/* leases in /proc/layout_leases */

/* References of the module; -1: it is built in or not loaded. */
#define LL_MODULE	"layout_lease"
long ll_module_refs(void);
/* Load it and wait until what earlier tests left has settled. */
long ll_module_settle(int fd);
int ll_module_delete(void);	/* -EBUSY, if it is in use */
/* Releasing is partly deferred, so wait for what must come. */
bool ll_module_refs_become(long refs);

static inline int ll_lease(int fd, int type, __u64 start, __u64 len)
{
	return ll_setlayout(fd, type, start, len, 0);
}

static inline int ll_unlock(int fd)
{
	return ll_setlayout(fd, F_UNLCK, 0, 0, 0);
}

static inline int ll_revoke(int fd)
{
	return ll_setlayout(fd, F_UNLCK, 0, 0, LAYOUT_LEASE_REVOKE);
}

/* Signals; SIGIO and SIGRTMIN are blocked by ll_env_init(). */
int ll_signal(int sig, long timeout_ms, siginfo_t *info);
bool ll_no_signal(void);

/* RDMA: a is the peer, b the owner of the memory regions under test. */
struct ll_rdma {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_cq *cq[2];
	struct ibv_qp *qp[2];
	struct ibv_qp_init_attr init;	/* of new queue pairs, but their CQs */
	struct ibv_srq *srq;	/* of b, if any */
	unsigned int qp_access;	/* that the pairs grant */
	bool iwarp;		/* its connections are TCP's */
	bool atomics;		/* it has them */
	union ibv_gid gid;
	int gid_index;
	enum ibv_mtu mtu;
	struct sockaddr_in addr;
	struct rdma_event_channel *cm;
	struct rdma_cm_id *listener, *id[2];
	bool gone[2];		/* that end of a connection of iWARP */
	char *buf;		/* of the peer */
	struct ibv_mr *buf_mr;
};

#define LL_BUF		(64 * 1024)
#define LL_READS	4	/* and atomics that a pair has under way */
#define LL_ACCESS	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | \
			 IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC | \
			 IBV_ACCESS_MW_BIND)
#define LL_A		0
#define LL_B		1
#define LL_TIMEOUT	(-1)	/* no completion came */

const char *ll_rdma_type(void);			/* siw, or else rxe */
const char *ll_rdma_open(struct ll_rdma *r);	/* NULL, or why not */
int ll_rdma_connect(struct ll_rdma *r);		/* also after an error */
/* The same in two steps; the second one also for a copy: a second pair. */
const char *ll_rdma_device(struct ll_rdma *r);
const char *ll_rdma_pair(struct ll_rdma *r);
/*
 * Or, instead of the second one: one end of a pair that belongs to two
 * processes. B listens, and meets A whenever that dials.
 */
int ll_rdma_listen(struct ll_rdma *r);		/* the port */
int ll_rdma_dial(struct ll_rdma *r, const struct sockaddr_in *to);
int ll_rdma_meet(struct ll_rdma *r, long timeout_ms);
/* A listener at *addr, which has the port then, or NULL. */
struct rdma_cm_id *ll_cm_listen(struct rdma_event_channel *cm,
				struct sockaddr_in *addr, int backlog);
struct ibv_mr *ll_reg(struct ll_rdma *r, void *addr, size_t len, int access);
int ll_reg_errno(struct ll_rdma *r, void *addr, size_t len, int access);
/* The latter for pthread_create(), with the answer in error. */
struct ll_registration {
	struct ll_rdma *rdma;
	char *addr;
	size_t len;
	int access;
	int error;
};

void *ll_reg_thread(void *registration);
int ll_rereg(struct ibv_mr *mr, struct ibv_pd *pd, int flags, int access);
int ll_wait_wc(struct ll_rdma *r, int side, long timeout_ms, struct ibv_wc *wc);
int ll_post(struct ll_rdma *r, int side, enum ibv_wr_opcode op,
	    __u64 laddr, __u32 lkey, size_t len, __u64 raddr,
	    __u32 rkey);
/*
 * Post, and wait until the data is where it belongs: status of the completion.
 * A requester of iWARP is not told why its connection went down: here it was
 * the key, so it is what RoCE calls it, IBV_WC_REM_ACCESS_ERR (of a SEND
 * IBV_WC_REM_OP_ERR).
 */
int ll_rdma_op(struct ll_rdma *r, int side, enum ibv_wr_opcode op,
	       const void *laddr, __u32 lkey, size_t len, const void *raddr,
	       __u32 rkey);
/* To all of the region; a window of type 2 is bound by a work request. */
int ll_bind_mw(struct ll_rdma *r, struct ibv_mw *mw, struct ibv_mr *mr);
/* The peer writes len times byte, or reads. */
int ll_rdma_write(struct ll_rdma *r, const void *raddr, __u32 rkey,
		  size_t len, unsigned char byte);
int ll_rdma_read(struct ll_rdma *r, const void *raddr, __u32 rkey,
		 size_t len);
/* The peer can write to its first bytes. */
bool ll_mr_works(struct ll_rdma *r, const struct ibv_mr *mr);
/* No access to this key succeeds; leaves the pair usable. */
bool ll_rkey_is_dead(struct ll_rdma *r, const void *raddr, __u32 rkey);
/* Such an asynchronous event comes in time; those before it are dropped. */
bool ll_async_event(struct ll_rdma *r, enum ibv_event_type type,
		    long timeout_ms);
/* The one that the owner of a region gets if op is refused. */
enum ibv_event_type ll_refusal(struct ll_rdma *r, enum ibv_wr_opcode op);
/*
 * There is one of those, for whichever operation: with iWARP it may be the read
 * that ll_rdma_op() puts behind a write.
 */
bool ll_refused(struct ll_rdma *r);

/*
 * A peer overruns the completion queue of b: the request that cannot be completed, and
 * the memory region that it was for, are stuck in the queue pair. The queue has to
 * be made before the region is registered, since a context that is closed begins with
 * what came last. Needs writes with immediate, which iWARP does not have.
 */
struct ibv_cq *ll_small_cq(struct ll_rdma *r);
/* How many requests were completed, or -errno. */
int ll_overrun(struct ll_rdma *r, struct ibv_cq *cq, const void *addr,
	       __u32 rkey);

/* A file, leased as a whole, len bytes mapped and registered here. */
struct held {
	int fd;
	char *map;
	struct ibv_mr *mr;
};

int ll_hold(struct held *h, struct ll_rdma *r, const char *path, size_t len);
int ll_let_go(struct held *h);	/* of the region, if there is one */
/* Binds a window of type 2 to all of a region; its rkey is in the request then. */
struct ibv_send_wr ll_bind_wr(struct ibv_mw *mw, struct ibv_mr *mr);

/* Other processes */
struct ll_proc {
	pid_t pid;
	int sock;
};

int ll_proc_start(struct ll_proc *p, void (*fn)(int sock, void *arg),
		  void *arg);
void ll_proc_stop(struct ll_proc *p);	/* SIGKILL and wait */
int ll_proc_wait(struct ll_proc *p, long timeout_ms);
int ll_put(int sock, int value);
int ll_get(int sock, long timeout_ms);	/* value, or -ETIME, -EPIPE */
int ll_steal(pid_t pid, int fd);	/* one here for its open file */
/* Memory that it has in common with all that are started then, or MAP_FAILED. */
void *ll_shared(size_t size);

enum ll_op {
	LL_OP_TRUNCATE,		/* to a bytes */
	LL_OP_FTRUNCATE,
	LL_OP_PUNCH,		/* b bytes at a */
	LL_OP_ZERO,
	LL_OP_COLLAPSE,
	LL_OP_INSERT,
	LL_OP_WRITE,		/* byte c, b times, at a */
	LL_OP_READ,		/* b bytes at a */
	LL_OP_CLONE,		/* b bytes at a (0: all) from path to path2 */
	LL_OP_OPEN_TRUNC,	/* with flags c besides */
	LL_OP_OPEN_WRITE,
	LL_OP_RENAME,		/* to path2 */
	LL_OP_LEASE,		/* type c, b bytes at a; the file stays open */
	LL_OP_UNLOCK,		/* of that file, with flags c */
	LL_OP_STATE,
	LL_OP_CLOSE,
};

struct ll_cmd {
	enum ll_op op;
	char path[PATH_MAX];
	char path2[PATH_MAX];
	long long a, b, c;
};

struct ll_result {
	int ret;		/* 0 or -errno */
	long ms;		/* how long it took */
};

/* The helper: does what it is told, in a process of its own. */
int ll_helper_start(struct ll_proc *p);
void ll_send(struct ll_proc *p, enum ll_op op, const char *path, long long a,
	     long long b, long long c);
void ll_send2(struct ll_proc *p, enum ll_op op, const char *path,
	      const char *path2, long long a, long long b);
int ll_done(struct ll_proc *p, long timeout_ms, struct ll_result *res);
/* The same; -EINTR as soon as it costs us a signal. */
int ll_done_untold(struct ll_proc *p, long timeout_ms, struct ll_result *res);
int ll_do(struct ll_proc *p, enum ll_op op, const char *path, long long a,
	  long long b, long long c);

static inline int ll_other_lease(struct ll_proc *helper, const char *path,
				 int type, __u64 start, __u64 len)
{
	return ll_do(helper, LL_OP_LEASE, path, start, len, type);
}

static inline int ll_other_unlock(struct ll_proc *helper)
{
	return ll_do(helper, LL_OP_UNLOCK, "", 0, 0, 0);
}

/*
 * A process that freezes the filesystem of dir. If it is stopped by closing its
 * socket, or the test ends, it thaws.
 */
int ll_freezer_start(struct ll_proc *p, const char *dir);
int ll_freeze(struct ll_proc *p, long timeout_ms);
int ll_thaw(struct ll_proc *p);
void ll_freezer_stop(struct ll_proc *p);

/*
 * A process whose read(2) has the lock of the inode (shared) until it is let go:
 * the memory that it reads to is not there. Who changes the file waits for it.
 */
int ll_reader_start(struct ll_proc *p, const char *path);
int ll_reader_let_go(struct ll_proc *p);

/*
 * An overlay at @mnt/merged; its upper layer is $DAX1/upper, the lower one @lower
 * (a word for the shell), or an empty directory.
 */
int ll_overlay_start(const char *mnt, const char *lower);
void ll_overlay_stop(const char *mnt);

/*
 * An NFS server with one thread, which serves a directory (a word for the shell),
 * with more options of exports(5), and a client of it at @mnt.
 */
int ll_nfs_start(const char *dir, const char *options, const char *mnt);
void ll_nfs_stop(const char *mnt);

/* A process that holds a shared lease on a whole file and one MR on it. */
struct ll_holder {
	const char *path;
	bool cooperative;	/* lets go when told; else does nothing */
};

#define LL_HOLDER_READY		1
#define LL_HOLDER_BREAK		2
#define LL_HOLDER_RELEASED	3
#define LL_HOLDER_REVOKED	4
#define LL_HOLDER_ERROR		5

/* It is ready, sends the others of these, and waits until the socket closes. */
int ll_holder_start(struct ll_proc *p, struct ll_holder *holder);

/* What each test starts from and leaves behind. */
struct ll_env {
	char path[PATH_MAX];	/* a fresh file, LL_PAGES long, seed 0 */
	char other[PATH_MAX + 8];	/* of one that is left to the test */
	struct ll_proc helper;
	struct ll_rdma rdma;
	long saved_grace;
	long saved_plain_grace;
};

const char *ll_env_init(struct ll_env *env, bool rdma);
void ll_env_exit(struct ll_env *env);

#endif /* __LAYOUT_LEASE_LIB_H */
