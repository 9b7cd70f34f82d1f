// SPDX-License-Identifier: GPL-2.0
/*
 * What the tests of layout leases have in common, see layout_lease_lib.h.
 */
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_cma.h>

#include "layout_lease_lib.h"

size_t ll_pg;

static void __attribute__((constructor)) ll_constructor(void)
{
	ll_pg = sysconf(_SC_PAGESIZE);
}

long ll_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void ll_sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

int ll_write_str(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

long ll_read_long(const char *path, long or_else)
{
	FILE *f = fopen(path, "re");
	long value;

	if (!f)
		return or_else;
	if (fscanf(f, "%ld", &value) != 1)
		value = or_else;
	fclose(f);
	return value;
}

int ll_write_long(const char *path, long value)
{
	char text[24];

	snprintf(text, sizeof(text), "%ld", value);
	return ll_write_str(path, text);
}

void ll_set_grace(int seconds)
{
	if (ll_write_long(LL_GRACE_SYSCTL, seconds)) {
		perror(LL_GRACE_SYSCTL);
		abort();
	}
}

/* A line "field: n kB" of /proc/self/status. */
long ll_status_kb(const char *field)
{
	size_t len = strlen(field);
	char line[256];
	long value = -1;
	FILE *f = fopen("/proc/self/status", "re");

	if (!f)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, len) && line[len] == ':')
			value = strtol(line + len + 1, NULL, 10);
	fclose(f);
	return value;
}

long ll_env_number(const char *name, long or_else)
{
	const char *text = getenv(name);

	return text && *text ? strtol(text, NULL, 0) : or_else;
}

static __u64 random_state;

unsigned int ll_dice(unsigned int sides)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (random_state * 0x2545f4914f6cdd1dULL >> 33) % sides;
}

void ll_seed(__u64 seed, unsigned int n)
{
	random_state = (seed + n + 1) * 0x9e3779b97f4a7c15ULL ?: 1;
	ll_dice(1);
	ll_dice(1);
}

int ll_sh(const char *format, ...)
{
	char cmd[1024];
	va_list args;
	int status;

	va_start(args, format);
	vsnprintf(cmd, sizeof(cmd), format, args);
	va_end(args);
	status = system(cmd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int ll_sh_line(char *line, size_t size, const char *format, ...)
{
	char cmd[1024];
	va_list args;
	int error;
	FILE *f;

	va_start(args, format);
	vsnprintf(cmd, sizeof(cmd), format, args);
	va_end(args);
	f = popen(cmd, "r");
	if (!f)
		return -errno;
	error = fgets(line, size, f) ? 0 : -EIO;
	pclose(f);
	line[strcspn(line, "\n")] = 0;
	return error;
}

int ll_source(char *dev, size_t size, const char *dir)
{
	return ll_sh_line(dev, size, "basename $(findmnt -n -o SOURCE %s)",
			  dir);
}

int ll_pmem_name(char *name, size_t size, const char *dev)
{
	return ll_sh_line(name, size,
			  "basename $(readlink -f /sys/block/%s/device)", dev);
}

int ll_pmem_unbind(const char *name)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd),
		 "echo %s >/sys/bus/nd/drivers/nd_pmem/unbind", name);
	/*
	 * XFS with rmapbt tells each process of each page, and mm/ logs it:
	 * a minute with KCSAN.
	 */
	return ll_sh_within(cmd, 8 * LL_SOON_MS);
}

int ll_pmem_bind(const char *name, const char *dev)
{
	return ll_sh("echo %s >/sys/bus/nd/drivers/nd_pmem/bind", name) ?:
		ll_sh("for i in $(seq 100); do test -b /dev/%s && exit; "
		      "sleep 0.1; done; false", dev);
}

int ll_umount(const char *dir)
{
	/* What was killed may take a moment to be gone. */
	return ll_sh("for i in $(seq 50); do "
		     "umount %s 2>/dev/null && exit; sleep 0.2; done; "
		     "umount %s", dir, dir);
}

int ll_mount_point(char *dir, char path[PATH_MAX], const char *file)
{
	if (!mkdtemp(dir) || chmod(dir, 0755))
		return -errno;
	snprintf(path, PATH_MAX, "%s%s", dir, strrchr(file, '/'));
	return 0;
}

bool ll_is_xfs(void)
{
	return !strcmp(getenv("DAXFS") ?: "xfs", "xfs");
}

/*
 * Old tools of XFS do not know exchange range. It has no metadata of its own, so
 * that its bit can be set afterwards, and cleared before such tools look.
 */
static int xfs_exchange_range(const char *dev, bool on)
{
	return ll_sh("f=$(xfs_db -c 'sb 0' -c 'p features_incompat' /dev/%s "
		     "2>/dev/null) && xfs_db -x -c 'sb 0' "
		     "-c \"write -d features_incompat $((${f##*= } %s 64))\" "
		     "/dev/%s >/dev/null 2>&1",
		     dev, on ? "|" : "& ~", dev);
}

int ll_new_filesystem(const char *dev, const char *dir)
{
	if (!ll_is_xfs())
		return ll_sh("mkfs.ext4 -q -F -b 4096 "
			     "-E stride=512,stripe_width=512 /dev/%s && "
			     "mount -t ext4 -o dax=always /dev/%s %s",
			     dev, dev, dir);
	return ll_sh("mkfs.xfs -q -f -m reflink=1,rmapbt=1 "
		     "-d su=2m,sw=1,agcount=2 -l size=64m,su=32k /dev/%s",
		     dev) ?: xfs_exchange_range(dev, true) ?:
		ll_sh("mount -t xfs -o dax=always /dev/%s %s", dev, dir);
}

int ll_renew_filesystem(char *dev, size_t size, const char *dir)
{
	return ll_source(dev, size, dir) ?: ll_umount(dir) ?:
		ll_new_filesystem(dev, dir);
}

int ll_fsck(const char *dev)
{
	int ret = ll_is_xfs() ? xfs_exchange_range(dev, false) : 0;

	ret = ret ?: ll_sh("%s /dev/%s >/tmp/fsck 2>&1", ll_is_xfs() ?
			   "xfs_repair -n" : "e2fsck -f -n", dev);
	if (ret)
		ll_sh("sed 's/^/# /' /tmp/fsck");
	return ret;
}

/* What was killed, or unmapped by others, may take a moment to be gone. */
int ll_remount(const char *dir, const char *options)
{
	char source[PATH_MAX], target[PATH_MAX], type[32];
	FILE *f = fopen("/proc/self/mounts", "re");
	long end = ll_now_ms() + LL_SLACK_MS;
	bool found = false;

	while (!found && f && fscanf(f, "%4095s %4095s %31s %*[^\n]", source,
				     target, type) == 3)
		found = !strcmp(target, dir);
	if (f)
		fclose(f);
	if (!found)
		return -ENOENT;
	while (syscall(__NR_umount2, dir, 0)) {
		if (errno != EBUSY || ll_now_ms() > end)
			return -errno;
		ll_sleep_ms(50);
	}
	return syscall(__NR_mount, source, dir, type, 0, options) ? -errno : 0;
}

int ll_dax_dir(char *path)
{
	struct fsxattr attr;
	int fd, ret;

	if (!mkdtemp(path))
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret = ioctl(fd, FS_IOC_FSGETXATTR, &attr);
	attr.fsx_xflags |= FS_XFLAG_DAX;
	ret = ret || ioctl(fd, FS_IOC_FSSETXATTR, &attr) ? -errno : 0;
	close(fd);
	return ret;
}

int ll_sh_soon(const char *cmd)
{
	return ll_sh_within(cmd, LL_SOON_MS);
}

int ll_sh_within(const char *cmd, int ms)
{
	long end = ll_now_ms() + ms;
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(ll_sh("%s", cmd));
	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (ll_now_ms() > end)
			return -1;
		ll_sleep_ms(20);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

__u32 ll_crc32(__u32 polynomial, __u32 crc, const void *buf, size_t len)
{
	const unsigned char *p = buf;
	int bit;

	while (len--)
		for (crc ^= *p++, bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? polynomial : 0);
	return crc;
}

/* To uid 65534 and no capability. */
int ll_drop_privileges(void)
{
	if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
	    setresuid(65534, 65534, 65534))
		return -errno;
	return 0;
}

/* Files */

int ll_fill(int fd, unsigned int pages, unsigned char seed)
{
	char *page = malloc(ll_pg);
	unsigned int i;
	int ret = 0;

	if (!page)
		return -ENOMEM;
	for (i = 0; i < pages && !ret; i++) {
		memset(page, seed + i, ll_pg);
		if (pwrite(fd, page, ll_pg, i * ll_pg) != (ssize_t)ll_pg)
			ret = errno ? -errno : -EIO;
	}
	free(page);
	return ret;
}

int ll_make(const char *path, unsigned int pages, unsigned char seed)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644), ret;

	if (fd < 0)
		return -errno;
	ret = ll_fill(fd, pages, seed);
	close(fd);
	return ret;
}

int ll_mkfile(char *path, size_t size, const char *dir, unsigned int pages,
	      unsigned char seed)
{
	int fd, ret;

	snprintf(path, size, "%s/layout-lease-XXXXXX", dir);
	fd = mkstemp(path);
	if (fd < 0)
		return -errno;
	ret = ll_fill(fd, pages, seed);
	close(fd);
	return ret;
}

/* Through read(2), not through a mapping. */
int ll_file_byte(const char *path, off_t offset)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char byte;
	int ret = -EIO;

	if (fd < 0)
		return -errno;
	if (pread(fd, &byte, 1, offset) == 1)
		ret = byte;
	close(fd);
	return ret;
}

bool ll_file_is(const char *path, off_t offset, size_t len, unsigned char byte)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char *buf = malloc(len);
	bool same = false;
	size_t i;

	if (fd >= 0 && buf && pread(fd, buf, len, offset) == (ssize_t)len) {
		for (i = 0; i < len && buf[i] == byte; i++)
			;
		same = i == len;
	}
	free(buf);
	if (fd >= 0)
		close(fd);
	return same;
}

bool ll_soon_file_is(const char *path, size_t len, unsigned char byte)
{
	long end = ll_now_ms() + LL_SOON_MS;

	while (!ll_file_is(path, 0, len, byte)) {
		if (ll_now_ms() > end)
			return false;
		ll_sleep_ms(1);
	}
	return true;
}

char *ll_map(int fd, off_t offset, size_t len, int prot)
{
	return mmap(NULL, len, prot, MAP_SHARED, fd, offset);
}

int ll_punch(int fd, off_t offset, off_t len)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
			 len) ? -errno : 0;
}

int ll_set_immutable(int fd, bool on)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags))
		return -errno;
	flags = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
	return ioctl(fd, FS_IOC_SETFLAGS, &flags) ? -errno : 0;
}

static int open_nameless(const char *dir)
{
	char path[PATH_MAX];
	int ret = ll_mkfile(path, sizeof(path), dir, 0, 0), fd;

	if (ret)
		return ret;
	fd = open(path, O_RDWR | O_CLOEXEC);
	ret = -errno;
	unlink(path);
	return fd < 0 ? ret : fd;
}

int ll_fill_up(const char *dir, long leave)
{
	long long size = 0, chunk;
	int fd = open_nameless(dir);

	if (fd < 0)
		return fd;
	for (chunk = 64 << 20; chunk >= 256 << 10; chunk /= 2)
		while (!fallocate(fd, 0, size, chunk))
			size += chunk;
	if (errno != ENOSPC || ftruncate(fd, size - leave))
		return -errno;
	sync();
	return 0;
}

long ll_take_all(char path[32], const char *dir, unsigned char byte)
{
	int fd = open_nameless(dir);
	char buf[64 << 10];
	long size = 0;
	ssize_t n;

	if (fd < 0)
		return fd;
	snprintf(path, 32, "/proc/self/fd/%d", fd);
	/* Some filesystems keep what was freed until then. */
	sync();
	memset(buf, byte, sizeof(buf));
	while ((n = write(fd, buf, sizeof(buf))) > 0)
		size += n;
	return errno == ENOSPC ? size : -errno;
}

/* FICLONERANGE; len 0: to the end of @from. */
int ll_clone(const char *from, const char *to, off_t offset, size_t len)
{
	struct file_clone_range range = {
		.src_offset = offset,
		.src_length = len,
		.dest_offset = offset,
	};
	int src = open(from, O_RDONLY | O_CLOEXEC);
	int dst = open(to, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int ret = 0;

	range.src_fd = src;
	if (src < 0 || dst < 0 || ioctl(dst, FICLONERANGE, &range))
		ret = -errno;
	if (src >= 0)
		close(src);
	if (dst >= 0)
		close(dst);
	return ret;
}

/* Leases */

int ll_setlayout(int fd, int type, __u64 start, __u64 len,
		 unsigned int flags)
{
	struct layout_lease lease = {
		.size = sizeof(lease),
		.flags = flags,
		.type = type,
		.start = start,
		.len = len,
	};

	return fcntl(fd, F_SETLAYOUT, &lease) ? -errno : 0;
}

int ll_getlayout(int fd, __u64 start, __u64 len,
		 struct layout_lease *lease)
{
	memset(lease, 0, sizeof(*lease));
	lease->size = sizeof(*lease);
	lease->start = start;
	lease->len = len;
	return fcntl(fd, F_GETLAYOUT, lease) ? -errno : 0;
}

int ll_state(int fd)
{
	struct layout_lease lease;
	int ret = ll_getlayout(fd, 0, 0, &lease);

	return ret ?: lease.state;
}

int ll_proc_locks(int fd)
{
	FILE *f = fopen("/proc/locks", "re");
	char line[256], inode[64];
	struct stat st;
	int n = 0;

	if (!f || fstat(fd, &st))
		return -errno;
	snprintf(inode, sizeof(inode), " %02x:%02x:%lu ", major(st.st_dev),
		 minor(st.st_dev), (unsigned long)st.st_ino);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, " LAYOUT ") && strstr(line, inode))
			n++;
	fclose(f);
	return n;
}

/* The last fput() of a file may be deferred. */
bool ll_gone(int fd)
{
	long end = ll_now_ms() + LL_SLACK_MS;
	int n;

	while ((n = ll_proc_locks(fd)) && ll_now_ms() < end)
		ll_sleep_ms(20);
	return n == 0;
}

long ll_proc_leases(void)
{
	FILE *f = fopen("/proc/layout_leases", "re");
	long n = -1;		/* the heading */
	int c;

	if (!f)
		return -errno;
	while ((c = getc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
}

long ll_module_refs(void)
{
	return ll_read_long("/sys/module/" LL_MODULE "/refcnt", -1);
}

long ll_module_settle(int fd)
{
	int i;

	ll_lease(fd, F_RDLCK, 0, 0);
	ll_unlock(fd);
	for (i = 0; i < 50 && ll_module_refs() > 0; i++)
		ll_sleep_ms(100);
	return ll_module_refs();
}

int ll_module_delete(void)
{
	return syscall(__NR_delete_module, LL_MODULE, O_NONBLOCK) ? -errno : 0;
}

bool ll_module_refs_become(long refs)
{
	long end = ll_now_ms() + LL_SLACK_MS;

	while (ll_module_refs() != refs && ll_now_ms() < end)
		ll_sleep_ms(20);
	return ll_module_refs() == refs;
}

/* Signals */

int ll_signal(int sig, long timeout_ms, siginfo_t *info)
{
	struct timespec ts = { timeout_ms / 1000, timeout_ms % 1000 * 1000000 };
	siginfo_t unused;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	return sigtimedwait(&set, info ?: &unused, &ts) < 0 ? -errno : 0;
}

bool ll_no_signal(void)
{
	sigset_t set;

	return !sigpending(&set) && !sigismember(&set, SIGIO) &&
	       !sigismember(&set, SIGRTMIN);
}

/* RDMA */

#define ACK_TIMEOUT	18	/* about a second, for slow machines */

static int find_gid(struct ll_rdma *r)
{
	static const __u8 v4[12] = { [10] = 0xff, [11] = 0xff };
	struct ibv_gid_entry entry;
	int i;

	for (i = 0; !ibv_query_gid_ex(r->ctx, 1, i, &entry, 0) || i < 16; i++) {
		if (ibv_query_gid_ex(r->ctx, 1, i, &entry, 0) ||
		    entry.gid_type != IBV_GID_TYPE_ROCE_V2 ||
		    memcmp(entry.gid.raw, v4, sizeof(v4)))
			continue;
		r->gid = entry.gid;
		r->gid_index = i;
		memcpy(&r->addr.sin_addr, entry.gid.raw + sizeof(v4), 4);
		return 0;
	}
	return -ENOENT;
}

/* The address of the network device below a device of iWARP. */
static int find_addr(struct ll_rdma *r)
{
	struct ibv_gid_entry entry;
	struct ifreq req = {};
	int sock, ret;

	if (ibv_query_gid_ex(r->ctx, 1, 0, &entry, 0) ||
	    !if_indextoname(entry.ndev_ifindex, req.ifr_name))
		return -ENODEV;
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ret = ioctl(sock, SIOCGIFADDR, &req) ? -errno : 0;
	close(sock);
	memcpy(&r->addr, &req.ifr_addr, sizeof(r->addr));
	return ret;
}

static struct ibv_context *open_device(void)
{
	const char *name = getenv("RDMA_DEV");
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *ctx = NULL;
	int i;

	for (i = 0; list && list[i]; i++)
		if (!name || !strcmp(name, ibv_get_device_name(list[i])))
			break;
	if (list && list[i])
		ctx = ibv_open_device(list[i]);
	if (list)
		ibv_free_device_list(list);
	return ctx;
}

static bool is_iwarp(struct ibv_context *ctx)
{
	return ctx->device->transport_type == IBV_TRANSPORT_IWARP;
}

const char *ll_rdma_type(void)
{
	struct ibv_context *ctx = open_device();
	bool iwarp = ctx && is_iwarp(ctx);

	if (ctx)
		ibv_close_device(ctx);
	return iwarp ? "siw" : "rxe";
}

const char *ll_rdma_device(struct ll_rdma *r)
{
	struct ibv_device_attr attr;
	struct ibv_port_attr port;

	memset(r, 0, sizeof(*r));
	r->init.cap = (struct ibv_qp_cap) { 16, 16, 2, 2, 0 };
	r->init.qp_type = IBV_QPT_RC;
	r->init.sq_sig_all = 1;
	r->qp_access = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
		       IBV_ACCESS_REMOTE_ATOMIC;
	r->addr.sin_family = AF_INET;
	r->ctx = open_device();
	if (!r->ctx)
		return "no RDMA device, see RDMA_DEV";
	if (ibv_query_port(r->ctx, 1, &port) || port.state != IBV_PORT_ACTIVE)
		return "the port of the RDMA device is not active";
	r->mtu = port.active_mtu;
	if (ibv_query_device(r->ctx, &attr))
		return "ibv_query_device failed";
	r->atomics = attr.atomic_cap != IBV_ATOMIC_NONE;
	r->iwarp = is_iwarp(r->ctx);
	if (r->iwarp ? find_addr(r) : find_gid(r))
		return "the RDMA device has no IPv4 address (of RoCE v2)";

	r->pd = ibv_alloc_pd(r->ctx);
	if (!r->pd)
		return "ibv_alloc_pd failed";
	r->buf = mmap(NULL, LL_BUF, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->buf == MAP_FAILED)
		return "out of memory";
	r->buf_mr = ibv_reg_mr(r->pd, r->buf, LL_BUF, LL_ACCESS);
	if (!r->buf_mr)
		return "ibv_reg_mr of anonymous memory failed";
	return NULL;
}

/* A new queue pair of that side in place of the old one, not connected. */
static int new_end(struct ll_rdma *r, int side)
{
	struct ibv_wc wc;

	if (r->qp[side])
		ibv_destroy_qp(r->qp[side]);
	if (r->id[side])
		rdma_destroy_id(r->id[side]);
	r->id[side] = NULL;
	r->gone[side] = false;
	if (!r->cq[side])
		r->cq[side] = ibv_create_cq(r->ctx, 64, NULL, NULL, 0);
	if (!r->cq[side])
		return -errno;
	while (ibv_poll_cq(r->cq[side], 1, &wc) > 0)
		;
	r->init.send_cq = r->cq[side];
	r->init.recv_cq = r->cq[side];
	r->init.srq = side == LL_B ? r->srq : NULL;
	r->qp[side] = ibv_create_qp(r->pd, &r->init);
	return r->qp[side] ? 0 : -errno;
}

const char *ll_rdma_pair(struct ll_rdma *r)
{
	int i;

	r->cm = NULL;
	for (i = 0; i < 2; i++) {
		r->cq[i] = NULL;
		r->qp[i] = NULL;
		r->id[i] = NULL;
		if (new_end(r, i))
			return "ibv_create_qp failed";
	}
	return ll_rdma_connect(r) ? "the queue pairs do not connect" : NULL;
}

const char *ll_rdma_open(struct ll_rdma *r)
{
	return ll_rdma_device(r) ?: ll_rdma_pair(r);
}

/*
 * rdma_cm, for queue pairs that are ours: those of RoCE are taken through
 * their states here. iWARP does that itself, and has no other way.
 */
static int cm_modify(struct ll_rdma *r, int side, enum ibv_qp_state from,
		     enum ibv_qp_state to)
{
	struct ibv_qp_attr attr;
	int mask;

	for (; !r->iwarp && from <= to; from++) {
		memset(&attr, 0, sizeof(attr));
		attr.qp_state = from;
		if (rdma_init_qp_attr(r->id[side], &attr, &mask))
			return -1;
		attr.timeout = ACK_TIMEOUT;
		if (ibv_modify_qp(r->qp[side], &attr, mask))
			return -1;
	}
	return 0;
}

static struct rdma_cm_event *cm_event(struct ll_rdma *r, long timeout_ms)
{
	struct pollfd pfd = { .fd = r->cm->fd, .events = POLLIN };
	struct rdma_cm_event *event;

	if (poll(&pfd, 1, timeout_ms) != 1 || rdma_get_cm_event(r->cm, &event))
		return NULL;
	return event;
}

/*
 * Everything that will ever be flushed is in the completion queue after this.
 * siw forgets what is posted later.
 */
static void end_is_gone(struct ll_rdma *r, struct rdma_cm_id *id)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_ERR };
	int i;

	for (i = 0; i < 2; i++) {
		if (id != r->id[i])
			continue;
		ibv_modify_qp(r->qp[i], &attr, IBV_QP_STATE);
		r->gone[i] = true;
	}
}

/* One step to a connection, or to its end; 1: an end is connected. */
static int cm_step(struct ll_rdma *r, long timeout_ms)
{
	struct rdma_cm_event *event = cm_event(r, timeout_ms);
	struct rdma_conn_param param = {
		.responder_resources = LL_READS,
		.initiator_depth = LL_READS,
		.retry_count = 6,	/* for rxe 7 is infinite */
		.rnr_retry_count = 7,
	};
	int ret;

	if (!event)
		return -ETIME;
	switch (event->event) {
	case RDMA_CM_EVENT_ADDR_RESOLVED:
		ret = rdma_resolve_route(r->id[LL_A], LL_SOON_MS);
		break;
	case RDMA_CM_EVENT_ROUTE_RESOLVED:
		param.qp_num = r->qp[LL_A]->qp_num;
		ret = cm_modify(r, LL_A, IBV_QPS_INIT, IBV_QPS_INIT) ?:
			rdma_connect(r->id[LL_A], &param);
		if (ret && errno == EADDRINUSE)
			ret = -EADDRINUSE;
		break;
	case RDMA_CM_EVENT_CONNECT_REQUEST:
		ret = new_end(r, LL_B);
		if (ret)
			break;
		r->id[LL_B] = event->id;
		param.qp_num = r->qp[LL_B]->qp_num;
		ret = cm_modify(r, LL_B, IBV_QPS_INIT, IBV_QPS_RTS) ?:
			rdma_accept(r->id[LL_B], &param);
		break;
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
		ret = cm_modify(r, LL_A, IBV_QPS_RTR, IBV_QPS_RTS) ?:
			rdma_establish(r->id[LL_A]) ?: 1;
		break;
	case RDMA_CM_EVENT_ESTABLISHED:
		ret = 1;
		break;
	case RDMA_CM_EVENT_DISCONNECTED:
		end_is_gone(r, event->id);
		ret = 0;
		break;
	case RDMA_CM_EVENT_TIMEWAIT_EXIT:
		ret = 0;
		break;
	default:
		fprintf(stderr, "# %s: %d\n", rdma_event_str(event->event),
			event->status);
		ret = -1;
	}
	rdma_ack_cm_event(event);
	return ret < 0 && ret != -EADDRINUSE ? -ECONNREFUSED : ret;
}

int ll_rdma_meet(struct ll_rdma *r, long timeout_ms)
{
	int ret;

	do {
		ret = cm_step(r, timeout_ms);
	} while (ret == 0);
	return ret < 0 ? ret : 0;
}

static int cm_open(struct ll_rdma *r)
{
	if (!r->cm)
		r->cm = rdma_create_event_channel();
	return r->cm ? 0 : -errno;
}

/*
 * The connection manager chooses a port without asking TCP, which siw uses, and
 * which may have given it to others: choose another one then.
 */
#define PORT_TRIES	10

struct rdma_cm_id *ll_cm_listen(struct rdma_event_channel *cm,
				struct sockaddr_in *addr, int backlog)
{
	struct rdma_cm_id *id;
	int i, error = EADDRINUSE;

	for (i = 0; error == EADDRINUSE && i < PORT_TRIES; i++) {
		if (rdma_create_id(cm, &id, NULL, RDMA_PS_TCP))
			return NULL;
		addr->sin_port = 0;
		if (!rdma_bind_addr(id, (struct sockaddr *)addr) &&
		    !rdma_listen(id, backlog)) {
			addr->sin_port = rdma_get_src_port(id);
			return id;
		}
		error = errno;
		rdma_destroy_id(id);
	}
	errno = error;
	return NULL;
}

int ll_rdma_listen(struct ll_rdma *r)
{
	struct sockaddr_in addr = r->addr;

	if (cm_open(r))
		return -errno;
	r->listener = ll_cm_listen(r->cm, &addr, 4);
	return r->listener ? ntohs(addr.sin_port) : -errno;
}

/* Only begins to. */
static int cm_dial(struct ll_rdma *r, const struct sockaddr_in *to)
{
	struct sockaddr_in from = r->addr, copy = *to;
	int ret = cm_open(r) ?: new_end(r, LL_A);

	if (ret)
		return ret;
	/*
	 * An answer of ARP that comes at once is noticed only when the time is
	 * over: a second will do.
	 */
	if (rdma_create_id(r->cm, &r->id[LL_A], NULL, RDMA_PS_TCP) ||
	    rdma_resolve_addr(r->id[LL_A], (struct sockaddr *)&from,
			      (struct sockaddr *)&copy, 1000))
		return -errno;
	return 0;
}

int ll_rdma_dial(struct ll_rdma *r, const struct sockaddr_in *to)
{
	int ret, i;

	for (i = 0, ret = -EADDRINUSE; ret == -EADDRINUSE && i < PORT_TRIES; i++)
		ret = cm_dial(r, to) ?: ll_rdma_meet(r, LL_SOON_MS);
	return ret;
}

/* Both ends are ours: whatever comes next is done here. */
static int connect_iwarp(struct ll_rdma *r)
{
	struct sockaddr_in to = r->addr;
	int ret = ll_rdma_listen(r);

	if (ret < 0)
		return ret;
	to.sin_port = htons(ret);
	ret = ll_rdma_dial(r, &to) ?: ll_rdma_meet(r, LL_SOON_MS);
	rdma_destroy_id(r->listener);
	return ret;
}

static int connect_once(struct ll_rdma *r)
{
	struct ibv_qp_attr attr;
	struct ibv_wc wc;
	int i, ret = 0;

	for (i = 0; i < 2; i++) {
		memset(&attr, 0, sizeof(attr));
		attr.qp_state = IBV_QPS_RESET;
		ret |= ibv_modify_qp(r->qp[i], &attr, IBV_QP_STATE);
	}
	for (i = 0; i < 2; i++) {
		while (ibv_poll_cq(r->cq[i], 1, &wc) > 0)
			;
		memset(&attr, 0, sizeof(attr));
		attr.qp_state = IBV_QPS_INIT;
		attr.port_num = 1;
		attr.qp_access_flags = r->qp_access;
		ret |= ibv_modify_qp(r->qp[i], &attr,
				     IBV_QP_STATE | IBV_QP_PKEY_INDEX |
				     IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);

		attr.qp_state = IBV_QPS_RTR;
		attr.path_mtu = r->mtu;
		attr.dest_qp_num = r->qp[!i]->qp_num;
		attr.max_dest_rd_atomic = LL_READS;
		attr.min_rnr_timer = 12;
		attr.ah_attr.is_global = 1;
		attr.ah_attr.grh.dgid = r->gid;
		attr.ah_attr.grh.sgid_index = r->gid_index;
		attr.ah_attr.grh.hop_limit = 64;
		attr.ah_attr.port_num = 1;
		ret |= ibv_modify_qp(r->qp[i], &attr,
				     IBV_QP_STATE | IBV_QP_AV |
				     IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
				     IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
				     IBV_QP_MIN_RNR_TIMER);
	}
	for (i = 0; i < 2; i++) {
		memset(&attr, 0, sizeof(attr));
		attr.qp_state = IBV_QPS_RTS;
		attr.timeout = ACK_TIMEOUT;
		attr.retry_cnt = 7;
		attr.rnr_retry = 7;
		attr.max_rd_atomic = LL_READS;
		ret |= ibv_modify_qp(r->qp[i], &attr,
				     IBV_QP_STATE | IBV_QP_TIMEOUT |
				     IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
				     IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
	}
	return ret ? -EIO : 0;
}

/*
 * The responder of rxe goes to the error state a little later than the
 * requester has its completion, be it reset meanwhile.
 */
int ll_rdma_connect(struct ll_rdma *r)
{
	int ret, i;

	if (r->iwarp)
		return connect_iwarp(r);
	for (i = 0; (ret = connect_once(r)) && i < 10; i++)
		ll_sleep_ms(10);
	return ret;
}

struct ibv_cq *ll_small_cq(struct ll_rdma *r)
{
	struct ibv_qp_init_attr init = r->init;

	if (ibv_destroy_qp(r->qp[LL_B]))
		return NULL;
	init.send_cq = r->cq[LL_B];
	init.recv_cq = ibv_create_cq(r->ctx, 1, NULL, NULL, 0);
	if (!init.recv_cq)
		return NULL;
	r->qp[LL_B] = ibv_create_qp(r->pd, &init);
	if (!r->qp[LL_B] || ll_rdma_connect(r))
		return NULL;
	return init.recv_cq;
}

int ll_overrun(struct ll_rdma *r, struct ibv_cq *cq, const void *addr,
	       __u32 rkey)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)r->buf,
		.length = 8,
		.lkey = r->buf_mr->lkey,
	};
	struct ibv_send_wr *bad, wr = {
		.opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
		.sg_list = &sge,
		.num_sge = 1,
		.wr.rdma.remote_addr = (uintptr_t)addr,
		.wr.rdma.rkey = rkey,
	};
	struct ibv_recv_wr *bad_recv, recv = {};
	int i;

	for (i = 0; i <= cq->cqe; i++) {
		if (ibv_post_recv(r->qp[LL_B], &recv, &bad_recv) ||
		    ibv_post_send(r->qp[LL_A], &wr, &bad))
			return -errno;
		if (ll_wait_wc(r, LL_A, 1000, NULL) != IBV_WC_SUCCESS)
			return i;
	}
	return -EOVERFLOW;
}

struct ibv_mr *ll_reg(struct ll_rdma *r, void *addr, size_t len, int access)
{
	return ibv_reg_mr(r->pd, addr, len, access);
}

int ll_hold(struct held *h, struct ll_rdma *r, const char *path, size_t len)
{
	int ret;

	h->fd = open(path, O_RDWR);
	if (h->fd < 0 || fcntl(h->fd, F_SETSIG, SIGRTMIN))
		return -errno;
	h->map = ll_map(h->fd, 0, len, PROT_READ | PROT_WRITE);
	if (h->map == MAP_FAILED)
		return -errno;
	ret = ll_lease(h->fd, F_RDLCK, 0, 0);
	if (ret)
		return ret;
	h->mr = ll_reg(r, h->map, len, LL_ACCESS);
	return h->mr ? 0 : -errno;
}

int ll_let_go(struct held *h)
{
	struct ibv_mr *mr = h->mr;

	h->mr = NULL;
	return mr ? -ibv_dereg_mr(mr) : 0;
}

struct ibv_send_wr ll_bind_wr(struct ibv_mw *mw, struct ibv_mr *mr)
{
	return (struct ibv_send_wr) {
		.opcode = IBV_WR_BIND_MW,
		.send_flags = IBV_SEND_SIGNALED,
		.bind_mw = {
			.mw = mw,
			.rkey = ibv_inc_rkey(mw->rkey),
			.bind_info = {
				.mr = mr,
				.addr = (uintptr_t)mr->addr,
				.length = mr->length,
				.mw_access_flags = IBV_ACCESS_REMOTE_WRITE |
						   IBV_ACCESS_REMOTE_READ |
						   IBV_ACCESS_REMOTE_ATOMIC,
			},
		},
	};
}

/* The errno of a registration, 0 if it succeeds. */
int ll_reg_errno(struct ll_rdma *r, void *addr, size_t len, int access)
{
	struct ibv_mr *mr;

	errno = 0;
	mr = ll_reg(r, addr, len, access);
	if (mr)
		ibv_dereg_mr(mr);
	return mr ? 0 : errno;
}

/*
 * Re-registration as the kernel sees it: not every user space driver passes
 * ibv_rereg_mr() on.
 */
void *ll_reg_thread(void *registration)
{
	struct ll_registration *r = registration;

	r->error = ll_reg_errno(r->rdma, r->addr, r->len, r->access);
	return NULL;
}

int ll_rereg(struct ibv_mr *mr, struct ibv_pd *pd, int flags, int access)
{
	struct ib_uverbs_rereg_mr_resp resp = {};
	struct {
		struct ib_uverbs_cmd_hdr hdr;
		struct ib_uverbs_rereg_mr cmd;
	} req = {
		.hdr = {
			.command = IB_USER_VERBS_CMD_REREG_MR,
			.in_words = sizeof(req) / 4,
			.out_words = sizeof(resp) / 4,
		},
		.cmd = {
			.response = (uintptr_t)&resp,
			.mr_handle = mr->handle,
			.flags = flags,
			.start = (uintptr_t)mr->addr,
			.length = mr->length,
			.hca_va = (uintptr_t)mr->addr,
			.pd_handle = pd->handle,
			.access_flags = access,
		},
	};

	if (write(mr->context->cmd_fd, &req, sizeof(req)) != sizeof(req))
		return -errno;
	return 0;
}

static bool is_gone(struct ll_rdma *r, int side)
{
	if (!r->iwarp)
		return false;
	while (!r->gone[side] && cm_step(r, 0) != -ETIME)
		;
	return r->gone[side];
}

int ll_wait_wc(struct ll_rdma *r, int side, long timeout_ms, struct ibv_wc *wc)
{
	long end = ll_now_ms() + timeout_ms;
	struct ibv_wc unused;
	bool gone = false;
	int n;

	if (!wc)
		wc = &unused;
	while (!(n = ibv_poll_cq(r->cq[side], 1, wc))) {
		if (gone) {
			memset(wc, 0, sizeof(*wc));
			wc->status = IBV_WC_WR_FLUSH_ERR;
			return wc->status;
		}
		if (ll_now_ms() > end)
			return LL_TIMEOUT;
		gone = is_gone(r, side);
		if (!gone)
			ll_sleep_ms(1);
	}
	return n < 0 ? LL_TIMEOUT : (int)wc->status;
}

int ll_post(struct ll_rdma *r, int side, enum ibv_wr_opcode op,
	    __u64 laddr, __u32 lkey, size_t len, __u64 raddr,
	    __u32 rkey)
{
	struct ibv_sge sge = { .addr = laddr, .length = len, .lkey = lkey };
	struct ibv_send_wr wr = { .opcode = op, .sg_list = &sge, .num_sge = 1 };
	struct ibv_send_wr *bad;

	if (op == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = raddr;
		wr.wr.atomic.rkey = rkey;
		wr.wr.atomic.compare_add = 1;
	} else {
		wr.wr.rdma.remote_addr = raddr;
		wr.wr.rdma.rkey = rkey;
	}
	/* Not all of them return a positive number. */
	return -abs(ibv_post_send(r->qp[side], &wr, &bad));
}

/*
 * What iWARP completes is on its way: it has arrived when a READ that was
 * posted after it is answered. One of no bytes would do, had siw not its own
 * idea of them.
 */
static int arrived(struct ll_rdma *r, int side, const void *raddr, __u32 rkey)
{
	ll_post(r, side, IBV_WR_RDMA_READ, (uintptr_t)r->buf + LL_BUF - 1,
		r->buf_mr->lkey, 1, (uintptr_t)raddr, rkey);
	return ll_wait_wc(r, side, LL_SOON_MS, NULL);
}

int ll_rdma_op(struct ll_rdma *r, int side, enum ibv_wr_opcode op,
	       const void *laddr, __u32 lkey, size_t len, const void *raddr,
	       __u32 rkey)
{
	int ret = ll_post(r, side, op, (uintptr_t)laddr, lkey, len,
			  (uintptr_t)raddr, rkey);

	if (!ret)
		ret = ll_wait_wc(r, side, LL_SOON_MS, NULL);
	if (!r->iwarp)
		return ret;
	if (!ret && op == IBV_WR_SEND)
		ret = arrived(r, side, r->buf, r->buf_mr->rkey);
	else if (!ret && op == IBV_WR_RDMA_WRITE)
		ret = arrived(r, side, raddr, rkey);
	/* The others if it went down between two segments, or while it sent. */
	if (ret != IBV_WC_WR_FLUSH_ERR && ret != IBV_WC_LOC_QP_OP_ERR &&
	    ret != IBV_WC_GENERAL_ERR)
		return ret;
	return op == IBV_WR_SEND ? IBV_WC_REM_OP_ERR : IBV_WC_REM_ACCESS_ERR;
}

static int peer_op(struct ll_rdma *r, enum ibv_wr_opcode op, const void *raddr,
		   __u32 rkey, size_t len)
{
	return ll_rdma_op(r, LL_A, op, r->buf, r->buf_mr->lkey, len, raddr,
			  rkey);
}

#define MW_ACCESS	(IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | \
			 IBV_ACCESS_REMOTE_ATOMIC)

int ll_bind_mw(struct ll_rdma *r, struct ibv_mw *mw, struct ibv_mr *mr)
{
	struct ibv_mw_bind_info info = {
		.mr = mr,
		.addr = (uintptr_t)mr->addr,
		.length = mr->length,
		.mw_access_flags = MW_ACCESS,
	};
	struct ibv_mw_bind bind = { .bind_info = info };
	struct ibv_send_wr *bad, wr = {
		.opcode = IBV_WR_BIND_MW,
		.bind_mw = { mw, ibv_inc_rkey(mw->rkey), info },
	};

	if (mw->type == IBV_MW_TYPE_1 ? ibv_bind_mw(r->qp[LL_B], mw, &bind) :
	    ibv_post_send(r->qp[LL_B], &wr, &bad))
		return LL_TIMEOUT;
	if (mw->type == IBV_MW_TYPE_2)
		mw->rkey = wr.bind_mw.rkey;
	return ll_wait_wc(r, LL_B, LL_SOON_MS, NULL);
}

int ll_rdma_write(struct ll_rdma *r, const void *raddr, __u32 rkey,
		  size_t len, unsigned char byte)
{
	memset(r->buf, byte, len);
	return peer_op(r, IBV_WR_RDMA_WRITE, raddr, rkey, len);
}

int ll_rdma_read(struct ll_rdma *r, const void *raddr, __u32 rkey,
		 size_t len)
{
	memset(r->buf, 0xee, len);
	return peer_op(r, IBV_WR_RDMA_READ, raddr, rkey, len);
}

bool ll_mr_works(struct ll_rdma *r, const struct ibv_mr *mr)
{
	static unsigned char byte;

	return ll_rdma_write(r, mr->addr, mr->rkey, 8, ++byte) ==
		IBV_WC_SUCCESS;
}

bool ll_rkey_is_dead(struct ll_rdma *r, const void *raddr, __u32 rkey)
{
	static const enum ibv_wr_opcode ops[] = {
		IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_ATOMIC_FETCH_AND_ADD
	};
	bool dead = true;
	unsigned int i;
	int status, ret;

	for (i = 0; i < ARRAY_SIZE(ops) - !r->atomics; i++) {
		memset(r->buf, 0xbd, 8);
		status = peer_op(r, ops[i], raddr, rkey, 8);
		ret = ll_rdma_connect(r);
		if (status == IBV_WC_REM_ACCESS_ERR && !ret)
			continue;
		printf("# operation %u with a dead key: status %d, then connected: %d\n",
		       ops[i], status, ret);
		dead = false;
	}
	return dead;
}

bool ll_async_event(struct ll_rdma *r, enum ibv_event_type type,
		    long timeout_ms)
{
	struct pollfd pfd = { .fd = r->ctx->async_fd, .events = POLLIN };
	struct ibv_async_event event;
	bool found = false;

	while (!found && poll(&pfd, 1, timeout_ms) == 1 &&
	       !ibv_get_async_event(r->ctx, &event)) {
		found = event.event_type == type;
		ibv_ack_async_event(&event);
	}
	return found;
}

/* siw finds out when it sends the answer to a READ. */
enum ibv_event_type ll_refusal(struct ll_rdma *r, enum ibv_wr_opcode op)
{
	return r->iwarp && op == IBV_WR_RDMA_READ ? IBV_EVENT_QP_REQ_ERR :
						    IBV_EVENT_QP_ACCESS_ERR;
}

bool ll_refused(struct ll_rdma *r)
{
	struct pollfd pfd = { .fd = r->ctx->async_fd, .events = POLLIN };
	struct ibv_async_event event;
	bool refused = false;

	while (!refused && poll(&pfd, 1, 0) == 1 &&
	       !ibv_get_async_event(r->ctx, &event)) {
		refused = event.event_type == IBV_EVENT_QP_ACCESS_ERR ||
			  (r->iwarp && event.event_type == IBV_EVENT_QP_REQ_ERR);
		ibv_ack_async_event(&event);
	}
	return refused;
}

/* Other processes */

/*
 * The child keeps no file of the test, but its mappings: start it before the
 * test maps something whose end it wants to see.
 */
int ll_proc_start(struct ll_proc *p, void (*fn)(int sock, void *arg),
		  void *arg)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	fflush(NULL);
	p->pid = fork();
	if (!p->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dup2(pair[1], 3) != 3 || close_range(4, ~0U, 0))
			_exit(1);
		fn(3, arg);
		_exit(0);
	}
	close(pair[1]);
	p->sock = pair[0];
	if (p->pid > 0)
		return 0;
	close(p->sock);
	return -EAGAIN;
}

void *ll_shared(size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

int ll_steal(pid_t pid, int fd)
{
	int pidfd = syscall(__NR_pidfd_open, pid, 0);
	int stolen = syscall(__NR_pidfd_getfd, pidfd, fd, 0);

	if (stolen < 0)
		stolen = -errno;
	close(pidfd);
	return stolen;
}

/* Wait status, or -ETIME. */
int ll_proc_wait(struct ll_proc *p, long timeout_ms)
{
	long end = ll_now_ms() + timeout_ms;
	int status;

	while (waitpid(p->pid, &status, WNOHANG) != p->pid) {
		if (ll_now_ms() > end)
			return -ETIME;
		ll_sleep_ms(5);
	}
	close(p->sock);
	p->pid = 0;
	return status;
}

void ll_proc_stop(struct ll_proc *p)
{
	if (p->pid <= 0)
		return;
	kill(p->pid, SIGKILL);
	if (ll_proc_wait(p, LL_SOON_MS) == -ETIME)
		fprintf(stderr, "# process %d does not die\n", p->pid);
}

static int read_full(int sock, void *buf, size_t len, long timeout_ms)
{
	struct pollfd pfd = { .fd = sock, .events = POLLIN };
	long end = ll_now_ms() + timeout_ms;
	ssize_t n;

	while (len) {
		long left = end - ll_now_ms();

		if (poll(&pfd, 1, left > 0 ? left : 0) == 0)
			return -ETIME;
		n = read(sock, buf, len);
		if (n == 0 || (n < 0 && errno != EINTR))
			return -EPIPE;
		if (n > 0) {
			buf += n;
			len -= n;
		}
	}
	return 0;
}

int ll_put(int sock, int value)
{
	return send(sock, &value, sizeof(value), MSG_NOSIGNAL) ==
		sizeof(value) ? 0 : -EPIPE;
}

int ll_get(int sock, long timeout_ms)
{
	int value, ret = read_full(sock, &value, sizeof(value), timeout_ms);

	return ret ?: value;
}

static int helper_fallocate(const struct ll_cmd *cmd, int fd)
{
	static const int modes[] = {
		[LL_OP_PUNCH] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		[LL_OP_ZERO] = FALLOC_FL_ZERO_RANGE,
		[LL_OP_COLLAPSE] = FALLOC_FL_COLLAPSE_RANGE,
		[LL_OP_INSERT] = FALLOC_FL_INSERT_RANGE,
	};

	return fallocate(fd, modes[cmd->op], cmd->a, cmd->b);
}

static int helper_do(const struct ll_cmd *cmd, int *leased)
{
	int fd, ret = 0;
	char *buf = NULL;

	switch (cmd->op) {
	case LL_OP_TRUNCATE:
		return truncate(cmd->path, cmd->a) ? -errno : 0;
	case LL_OP_CLONE:
		return ll_clone(cmd->path, cmd->path2, cmd->a, cmd->b);
	case LL_OP_RENAME:
		return rename(cmd->path, cmd->path2) ? -errno : 0;
	case LL_OP_LEASE:
		if (*leased < 0)
			*leased = open(cmd->path, O_RDWR | O_CLOEXEC);
		if (*leased < 0)
			return -errno;
		return ll_lease(*leased, cmd->c, cmd->a, cmd->b);
	case LL_OP_UNLOCK:
		return ll_setlayout(*leased, F_UNLCK, cmd->a, cmd->b, cmd->c);
	case LL_OP_STATE:
		return ll_state(*leased);
	case LL_OP_CLOSE:
		ret = close(*leased) ? -errno : 0;
		*leased = -1;
		return ret;
	default:
		break;
	}

	fd = open(cmd->path, cmd->op == LL_OP_OPEN_TRUNC ?
		  O_RDWR | O_TRUNC | O_CLOEXEC | cmd->c :
		  O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	errno = 0;
	switch (cmd->op) {
	case LL_OP_FTRUNCATE:
		ret = ftruncate(fd, cmd->a);
		break;
	case LL_OP_WRITE:
	case LL_OP_READ:
		buf = malloc(cmd->b);
		if (!buf) {
			ret = -1;
			break;
		}
		memset(buf, cmd->c, cmd->b);
		if (cmd->op == LL_OP_WRITE)
			ret = pwrite(fd, buf, cmd->b, cmd->a);
		else
			ret = pread(fd, buf, cmd->b, cmd->a);
		ret = ret == cmd->b ? 0 : -1;
		break;
	case LL_OP_PUNCH:
	case LL_OP_ZERO:
	case LL_OP_COLLAPSE:
	case LL_OP_INSERT:
		ret = helper_fallocate(cmd, fd);
		break;
	default:
		break;
	}
	ret = ret ? -(errno ?: EIO) : 0;
	free(buf);
	close(fd);
	return ret;
}

static void nop_handler(int sig)
{
}

static void helper_main(int sock, void *arg)
{
	/* SIGUSR1 interrupts and does not restart. */
	struct sigaction sa = { .sa_handler = nop_handler };
	struct ll_result res;
	int leased = -1;
	struct ll_cmd cmd;

	sigaction(SIGUSR1, &sa, NULL);
	while (!read_full(sock, &cmd, sizeof(cmd), INT_MAX)) {
		res.ms = ll_now_ms();
		res.ret = helper_do(&cmd, &leased);
		res.ms = ll_now_ms() - res.ms;
		if (send(sock, &res, sizeof(res), MSG_NOSIGNAL) != sizeof(res))
			break;
	}
}

int ll_helper_start(struct ll_proc *p)
{
	return ll_proc_start(p, helper_main, NULL);
}

static void send_cmd(struct ll_proc *p, struct ll_cmd *cmd)
{
	if (send(p->sock, cmd, sizeof(*cmd), MSG_NOSIGNAL) != sizeof(*cmd))
		perror("# helper");
}

void ll_send(struct ll_proc *p, enum ll_op op, const char *path, long long a,
	     long long b, long long c)
{
	struct ll_cmd cmd = { .op = op, .a = a, .b = b, .c = c };

	snprintf(cmd.path, sizeof(cmd.path), "%s", path);
	send_cmd(p, &cmd);
}

void ll_send2(struct ll_proc *p, enum ll_op op, const char *path,
	      const char *path2, long long a, long long b)
{
	struct ll_cmd cmd = { .op = op, .a = a, .b = b };

	snprintf(cmd.path, sizeof(cmd.path), "%s", path);
	snprintf(cmd.path2, sizeof(cmd.path2), "%s", path2);
	send_cmd(p, &cmd);
}

/* -ETIME: not done yet, ask again. */
int ll_done(struct ll_proc *p, long timeout_ms, struct ll_result *res)
{
	return read_full(p->sock, res, sizeof(*res), timeout_ms);
}

int ll_done_untold(struct ll_proc *p, long timeout_ms, struct ll_result *res)
{
	long end = ll_now_ms() + timeout_ms;
	int ret;

	do {
		ret = ll_done(p, 20, res);
	} while (ret == -ETIME && ll_no_signal() && ll_now_ms() < end);
	return ret == -ETIME && !ll_no_signal() ? -EINTR : ret;
}

int ll_do(struct ll_proc *p, enum ll_op op, const char *path, long long a,
	  long long b, long long c)
{
	struct ll_result res;
	int ret;

	ll_send(p, op, path, a, b, c);
	ret = ll_done(p, LL_SOON_MS, &res);
	return ret ?: res.ret;
}

/* Not ll_proc_start(): whatever becomes of the test, what was frozen is thawed. */
int ll_freezer_start(struct ll_proc *p, const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int pair[2];

	if (fd < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	p->sock = pair[0];
	p->pid = fork();
	if (!p->pid) {
		close(pair[0]);
		if (ll_get(pair[1], INT_MAX))
			_exit(0);
		ll_put(pair[1], ioctl(fd, FIFREEZE, 0) ? -errno : 0);
		ll_get(pair[1], INT_MAX);
		ll_put(pair[1], ioctl(fd, FITHAW, 0) ? -errno : 0);
		_exit(0);
	}
	close(pair[1]);
	close(fd);
	return p->pid < 0 ? -errno : 0;
}

int ll_freeze(struct ll_proc *p, long timeout_ms)
{
	return ll_put(p->sock, 0) ?: ll_get(p->sock, timeout_ms);
}

int ll_thaw(struct ll_proc *p)
{
	return ll_put(p->sock, 0) ?: ll_get(p->sock, LL_SOON_MS);
}

void ll_freezer_stop(struct ll_proc *p)
{
	int status;

	if (p->pid <= 0)
		return;
	close(p->sock);
	waitpid(p->pid, &status, 0);
	p->pid = 0;
}

int ll_overlay_start(const char *mnt, const char *lower)
{
	return ll_sh("mkdir -p %s/empty %s/merged $DAX1/upper $DAX1/work && "
		     "mount -t overlay overlay -o lowerdir=%s%s,"
		     "upperdir=$DAX1/upper,workdir=$DAX1/work %s/merged",
		     mnt, mnt, lower ?: mnt, lower ? "" : "/empty", mnt);
}

void ll_overlay_stop(const char *mnt)
{
	ll_sh("umount %s/merged; rm -rf %s $DAX1/upper $DAX1/work", mnt, mnt);
}

int ll_nfs_start(const char *dir, const char *options, const char *mnt)
{
	/* The root may be read-only. */
	return ll_sh("set -e; modprobe nfsd; mkdir -p %s /run/rpcbind; "
		     "[ -w /var/lib/nfs ] || "
		     "mount -t tmpfs layout_lease_nfs /var/lib/nfs; "
		     "mountpoint -q /proc/fs/nfsd || "
		     "mount -t nfsd nfsd /proc/fs/nfsd; "
		     "echo 10 >/proc/fs/nfsd/nfsv4leasetime; "
		     "echo 10 >/proc/fs/nfsd/nfsv4gracetime; "
		     "exportfs -o rw,no_root_squash,insecure,fsid=0%s "
		     "127.0.0.1:%s; "
		     "rpc.mountd --no-nfs-version 3; "
		     "rpc.nfsd --no-nfs-version 3 1; "
		     "mount -t nfs4 -o vers=4.2,actimeo=0 127.0.0.1:/ %s",
		     mnt, options, dir, mnt);
}

void ll_nfs_stop(const char *mnt)
{
	ll_sh("umount -f %s; exportfs -ua; rpc.nfsd 0; pkill rpc.mountd; "
	      "! grep -q ^layout_lease_nfs /proc/mounts || umount /var/lib/nfs",
	      mnt);
}

struct reading {
	const char *path;
	char *buf;
};

static void *read_a_page(void *arg)
{
	struct reading *r = arg;
	int fd = open(r->path, O_RDONLY | O_CLOEXEC);

	if (pread(fd, r->buf, ll_pg, 0) < 0)
		perror("# reader");
	close(fd);
	return NULL;
}

static void reader(int sock, void *arg)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_zeropage zero = {};
	struct pollfd pfd = { .events = POLLIN };
	struct reading r = { .path = arg };
	pthread_t thread;
	int ret;

	r.buf = mmap(NULL, ll_pg, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = zero.range.start = (uintptr_t)r.buf;
	reg.range.len = zero.range.len = ll_pg;
	pfd.fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (pfd.fd < 0 || ioctl(pfd.fd, UFFDIO_API, &api) ||
	    ioctl(pfd.fd, UFFDIO_REGISTER, &reg)) {
		ll_put(sock, -errno);
		return;
	}
	ret = -pthread_create(&thread, NULL, read_a_page, &r);
	/* When it faults, it has the lock. */
	if (!ret && poll(&pfd, 1, LL_SOON_MS) != 1)
		ret = -ETIME;
	ll_put(sock, ret);
	ll_get(sock, INT_MAX);
	ll_put(sock, ioctl(pfd.fd, UFFDIO_ZEROPAGE, &zero) ? -errno : 0);
	pthread_join(thread, NULL);
}

int ll_reader_start(struct ll_proc *p, const char *path)
{
	return ll_proc_start(p, reader, (void *)path) ?:
		ll_get(p->sock, 2 * LL_SOON_MS);
}

int ll_reader_let_go(struct ll_proc *p)
{
	return ll_put(p->sock, 0) ?: ll_get(p->sock, LL_SOON_MS);
}

static void holder(int sock, void *arg)
{
	struct pollfd pfd = { .fd = sock, .events = POLLIN };
	const struct ll_holder *h = arg;
	struct ibv_mr *mr = NULL;
	struct ll_rdma rdma;
	siginfo_t info;
	char *map;
	int fd;

	fd = open(h->path, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && !fcntl(fd, F_SETSIG, SIGRTMIN) &&
	    !ll_lease(fd, F_RDLCK, 0, 0) && !ll_rdma_open(&rdma)) {
		map = ll_map(fd, 0, LL_PAGES * ll_pg, PROT_READ | PROT_WRITE);
		mr = ll_reg(&rdma, map, LL_PAGES * ll_pg, LL_ACCESS);
	}
	ll_put(sock, mr ? LL_HOLDER_READY : LL_HOLDER_ERROR);

	while (poll(&pfd, 1, 0) == 0) {
		if (ll_signal(SIGRTMIN, 50, &info))
			continue;
		if (info.si_code == POLL_HUP) {
			ll_put(sock, LL_HOLDER_REVOKED);
			continue;
		}
		ll_put(sock, LL_HOLDER_BREAK);
		if (h->cooperative) {
			if (!ibv_dereg_mr(mr) && !ll_unlock(fd))
				ll_put(sock, LL_HOLDER_RELEASED);
			else
				ll_put(sock, LL_HOLDER_ERROR);
		}
	}
}

int ll_holder_start(struct ll_proc *p, struct ll_holder *h)
{
	int ret = ll_proc_start(p, holder, h);

	if (!ret && ll_get(p->sock, LL_SOON_MS) != LL_HOLDER_READY)
		ret = -EIO;
	return ret;
}

/* Environment */

const char *ll_env_init(struct ll_env *env, bool rdma)
{
	const char *dir = getenv("DAX1");
	const char *why;
	sigset_t set;

	memset(env, 0, sizeof(*env));
	if (geteuid())
		return "needs root";
	if (!dir)
		return "DAX1 names no DAX filesystem: see layout_lease.sh";
	env->saved_grace = ll_read_long(LL_GRACE_SYSCTL, LONG_MIN);
	if (env->saved_grace == LONG_MIN)
		return "no layout leases: CONFIG_LAYOUT_LEASE is missing";
	env->saved_plain_grace = ll_read_long(LL_PLAIN_GRACE, 45);
	if (ll_mkfile(env->path, sizeof(env->path), dir, LL_PAGES, 0))
		return "cannot make a file in DAX1";
	snprintf(env->other, sizeof(env->other), "%s.2", env->path);

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	ll_set_grace(LL_GRACE);
	if (ll_helper_start(&env->helper))
		why = "cannot start a process";
	else
		why = rdma ? ll_rdma_open(&env->rdma) : NULL;
	if (why)
		ll_env_exit(env);
	return why;
}

void ll_env_exit(struct ll_env *env)
{
	ll_proc_stop(&env->helper);
	unlink(env->path);
	unlink(env->other);
	ll_set_grace(env->saved_grace);
	ll_write_long(LL_PLAIN_GRACE, env->saved_plain_grace);
}
