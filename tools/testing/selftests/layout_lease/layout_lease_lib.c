// SPDX-License-Identifier: GPL-2.0
/*
 * What the tests of layout leases have in common, see layout_lease_lib.h.
 */
#include <grp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/fs.h>
#include <rdma/ib_user_verbs.h>

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

int ll_umount(const char *dir)
{
	/* What was killed may take a moment to be gone. */
	return ll_sh("for i in $(seq 50); do "
		     "umount %s 2>/dev/null && exit; sleep 0.2; done; "
		     "umount %s", dir, dir);
}

int ll_new_filesystem(const char *dev, const char *dir)
{
	const char *fs = getenv("DAXFS");

	if (fs && !strcmp(fs, "ext4"))
		return ll_sh("mkfs.ext4 -q -F -b 4096 "
			     "-E stride=512,stripe_width=512 /dev/%s && "
			     "mount -t ext4 -o dax=always /dev/%s %s",
			     dev, dev, dir);
	return ll_sh("mkfs.xfs -q -f -m reflink=1,rmapbt=1 "
		     "-d su=2m,sw=1,agcount=2 -l size=64m,su=32k /dev/%s && "
		     "mount -t xfs -o dax=always /dev/%s %s", dev, dev, dir);
}

int ll_sh_soon(const char *cmd)
{
	long end = ll_now_ms() + LL_SOON_MS;
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

char *ll_map(int fd, off_t offset, size_t len, int prot)
{
	return mmap(NULL, len, prot, MAP_SHARED, fd, offset);
}

int ll_punch(int fd, off_t offset, off_t len)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
			 len) ? -errno : 0;
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
		return 0;
	}
	return -ENOENT;
}

const char *ll_rdma_open(struct ll_rdma *r)
{
	struct ibv_qp_init_attr init = {
		.cap = { 16, 16, 2, 2, 0 },
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
	};
	const char *name = getenv("RDMA_DEV");
	struct ibv_device **list;
	struct ibv_port_attr port;
	int i;

	memset(r, 0, sizeof(*r));
	r->qp_access = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
		       IBV_ACCESS_REMOTE_ATOMIC;
	list = ibv_get_device_list(NULL);
	for (i = 0; list && list[i]; i++)
		if (!name || !strcmp(name, ibv_get_device_name(list[i])))
			break;
	if (list && list[i])
		r->ctx = ibv_open_device(list[i]);
	if (list)
		ibv_free_device_list(list);
	if (!r->ctx)
		return "no RDMA device, see RDMA_DEV";
	if (ibv_query_port(r->ctx, 1, &port) || port.state != IBV_PORT_ACTIVE)
		return "the port of the RDMA device is not active";
	r->mtu = port.active_mtu;
	if (find_gid(r))
		return "the RDMA device has no RoCE v2 address over IPv4";

	r->pd = ibv_alloc_pd(r->ctx);
	if (!r->pd)
		return "ibv_alloc_pd failed";
	for (i = 0; i < 2; i++) {
		r->cq[i] = ibv_create_cq(r->ctx, 64, NULL, NULL, 0);
		init.send_cq = r->cq[i];
		init.recv_cq = r->cq[i];
		r->qp[i] = r->cq[i] ? ibv_create_qp(r->pd, &init) : NULL;
		if (!r->qp[i])
			return "ibv_create_qp failed";
	}
	r->buf = mmap(NULL, LL_BUF, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->buf == MAP_FAILED)
		return "out of memory";
	r->buf_mr = ibv_reg_mr(r->pd, r->buf, LL_BUF, LL_ACCESS);
	if (!r->buf_mr)
		return "ibv_reg_mr of anonymous memory failed";
	return ll_rdma_connect(r) ? "ibv_modify_qp failed" : NULL;
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
		attr.max_dest_rd_atomic = 1;
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
		attr.timeout = 18;	/* about a second, for slow machines */
		attr.retry_cnt = 7;
		attr.rnr_retry = 7;
		attr.max_rd_atomic = 1;
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

	for (i = 0; (ret = connect_once(r)) && i < 10; i++)
		ll_sleep_ms(10);
	return ret;
}

struct ibv_mr *ll_reg(struct ll_rdma *r, void *addr, size_t len, int access)
{
	return ibv_reg_mr(r->pd, addr, len, access);
}

/* The errno of a registration, 0 if it succeeds. */
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

int ll_wait_wc(struct ll_rdma *r, int side, long timeout_ms, struct ibv_wc *wc)
{
	long end = ll_now_ms() + timeout_ms;
	struct ibv_wc unused;
	int n;

	if (!wc)
		wc = &unused;
	while (!(n = ibv_poll_cq(r->cq[side], 1, wc))) {
		if (ll_now_ms() > end)
			return LL_TIMEOUT;
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
	return -ibv_post_send(r->qp[side], &wr, &bad);
}

static int peer_op(struct ll_rdma *r, enum ibv_wr_opcode op, const void *raddr,
		   __u32 rkey, size_t len)
{
	int ret = ll_post(r, LL_A, op, (uintptr_t)r->buf, r->buf_mr->lkey, len,
			  (uintptr_t)raddr, rkey);

	return ret ?: ll_wait_wc(r, LL_A, LL_SOON_MS, NULL);
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

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		memset(r->buf, 0xbd, 8);
		if (peer_op(r, ops[i], raddr, rkey, 8) != IBV_WC_REM_ACCESS_ERR)
			dead = false;
		if (ll_rdma_connect(r))
			dead = false;
	}
	return dead;
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

int ll_do(struct ll_proc *p, enum ll_op op, const char *path, long long a,
	  long long b, long long c)
{
	struct ll_result res;
	int ret;

	ll_send(p, op, path, a, b, c);
	ret = ll_done(p, LL_SOON_MS, &res);
	return ret ?: res.ret;
}

void ll_holder(int sock, void *arg)
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
		return "DAX1 names no DAX filesystem";
	env->saved_grace = ll_read_long(LL_GRACE_SYSCTL, LONG_MIN);
	if (env->saved_grace == LONG_MIN)
		return "the kernel has no layout leases";
	env->saved_plain_grace = ll_read_long(LL_PLAIN_GRACE, 45);
	if (ll_mkfile(env->path, sizeof(env->path), dir, LL_PAGES, 0))
		return "cannot make a file in DAX1";

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
	ll_set_grace(env->saved_grace);
	ll_write_long(LL_PLAIN_GRACE, env->saved_plain_grace);
}
