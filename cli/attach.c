/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lcpfs attach, detach: a partition as a block device of this machine.
 *
 * The kernel's nbd does it best, and follow.c stays with it; where there is none, nbdfuse shows the volume as a
 * file, and a loop device is laid over it. What is attached stands in a file for each partition in RUN, until the
 * machine restarts or detach removes it; a file whose device is not there any more counts for nothing. A lock on
 * RUN lets one attach or detach go on at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "cli.h"
#include "config.h"
#include "control/field.h"
#include "control/socket.h"
#include "follow.h"
#include "nbd.h"
#include "pool/pool.h"
#include "program.h"
#include "session.h"
#include "show.h"

#define RUN "/run/lcpfs"

enum { DEVICE_TEXT = 64, FUSE_MAGIC = 0x65735546, WAIT_S = 300, WAIT_S_MAX = 86400 };

struct attachment {
	const struct cli *cli;
	const char *name;
	char pool_path[PATH_MAX];
	struct pool_seen seen;
	char record_path[PATH_MAX]; /* the file that says what is attached */
	char folder[PATH_MAX];      /* of nbdfuse's file */
	char method[16], device[DEVICE_TEXT];
	struct nbd_device nbd; /* where that is the method; its index stands in `device` */
	bool is_read_only;
	int held_fd; /* detach: the device, of which nobody else can make use now; -1: it could not be had */
	struct lcpfs_failure failure;
};

struct method {
	const char *name, *words;
	const char *(*missing)(void); /* NULL: it can be used; else what lacks */
	int (*attach)(struct attachment *a);
	int (*detach)(struct attachment *a);    /* closes held_fd */
	bool (*is_there)(struct attachment *a); /* a->device is still what was attached */
	bool waits; /* for a server that is gone: so nothing may be asked of the device then */
};

/* ---- the kernel's nbd ---- */

static const char *nbd_missing(void)
{
	static const char *const modprobe[] = {"modprobe", "-q", "nbd", NULL};
	if (access("/sys/module/nbd", F_OK) && program_run(modprobe, NULL, 0, NULL))
		return "the kernel has no nbd";
	return NULL;
}

static void release_held(struct attachment *a)
{
	if (a->held_fd >= 0)
		close(a->held_fd);
	a->held_fd = -1;
}

/* The kernel looks for a partition table when it is opened first: now, while there is a server. */
static void open_once(const char *device)
{
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
}

static int nbd_follow(struct attachment *a, struct follow *f)
{
	char log_path[PATH_MAX + 8];
	struct lcpfs_failure ignored;
	int error = nbd_device_connect(&f->device, &f->link, &a->failure);
	if (error)
		return error;
	a->nbd = f->device;
	snprintf(a->device, sizeof(a->device), "/dev/nbd%u", f->device.index);
	open_once(a->device);
	snprintf(log_path, sizeof(log_path), "%s.log", a->record_path);
	error = follow_start(f, log_path, &a->failure);
	if (error)
		(void)!nbd_device_disconnect(&f->device, &ignored);
	return error;
}

static int nbd_attach(struct attachment *a)
{
	struct follow f = {.guid = a->seen.identity.guid, .name = a->name, .device = a->nbd};
	uint64_t number;
	CHECK(getrandom(&number, sizeof(number), 0) == sizeof(number));
	snprintf(f.device.owner, sizeof(f.device.owner), "lcpfs-%016" PRIx64 "-%016" PRIx64, f.guid, number);
	snprintf(f.pool_path, sizeof(f.pool_path), "%s", a->pool_path);
	int error = nbd_link_open(a->seen.nbd_path, a->seen.owner_uid, a->name, &f.link, &a->failure);
	if (error)
		return error;
	error = follow_begin(&f, &a->failure);
	if (!error)
		error = nbd_follow(a, &f);
	if (error)
		nbd_link_close(&f.link);
	return error;
}

static int nbd_detach(struct attachment *a)
{
	struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
	int error = nbd_device_disconnect(&a->nbd, &a->failure);
	/* Not before: closing it writes back, and waits for a server that may be gone. */
	release_held(a);
	for (int i = 0; !error && nbd_device_is_connected(&a->nbd) && i < 100; i++)
		nanosleep(&pause, NULL);
	return error;
}

static bool nbd_is_there(struct attachment *a)
{
	return sscanf(a->device, "/dev/nbd%u", &a->nbd.index) == 1 && nbd_device_is_connected(&a->nbd);
}

/* ---- nbdfuse and a loop device ---- */

static const char *fuse_missing(void)
{
	if (!program_exists("nbdfuse"))
		return "no nbdfuse";
	if (!program_exists("losetup"))
		return "no losetup";
	if (access("/dev/fuse", R_OK | W_OK))
		return "the kernel has no FUSE";
	return access("/dev/loop-control", R_OK | W_OK) ? "the kernel has no loop devices" : NULL;
}

/* Also where the program behind it is gone. */
static bool fuse_is_mounted(const struct attachment *a)
{
	struct statfs about;
	return statfs(a->folder, &about) ? errno == ENOTCONN : about.f_type == FUSE_MAGIC;
}

/* In any case: also where only a part of it is there. */
static int fuse_unmount(struct attachment *a)
{
	const char *unmount[] = {"umount", a->folder, NULL};
	struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
	int error = 0;
	for (int i = 0; i < 100 && fuse_is_mounted(a); i++) {
		if (i)
			nanosleep(&pause, NULL);
		error = program_run(unmount, NULL, 0, &a->failure);
	}
	if (!error)
		rmdir(a->folder);
	return error;
}

static int fuse_mount(struct attachment *a)
{
	char socket[3 * sizeof(a->seen.nbd_path)], uri[2 * LCPFS_NAME_MAX + sizeof(socket) + 64],
		log_path[PATH_MAX + 8];
	const char *arguments[] = {"nbdfuse", a->folder, uri, NULL, NULL};
	struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
	int error = fuse_unmount(a); /* what an earlier one has left: nbdfuse would go to the folder above */

	if (error)
		return error;
	if (mkdir(a->folder, 0700) && errno != EEXIST)
		return failure_set(&a->failure, LCPFS_E_SYSTEM, "%s: %s", a->folder, strerrordesc_np(errno));
	socket_path_encode(a->seen.nbd_path, socket);
	snprintf(uri, sizeof(uri), "nbd+unix:///%s?socket=%s", a->name, socket);
	snprintf(log_path, sizeof(log_path), "%s.log", a->record_path);
	if (a->is_read_only) {
		arguments[1] = "-r";
		arguments[2] = a->folder;
		arguments[3] = uri;
	}
	error = program_start(arguments, NULL, log_path, &a->failure);
	for (int i = 0; !error && i < 250 && !fuse_is_mounted(a); i++)
		nanosleep(&pause, NULL);
	if (!error && !fuse_is_mounted(a))
		error = failure_set(&a->failure, LCPFS_E_SYSTEM, "nbdfuse does not start; see %s", log_path);
	return error;
}

/* Whoever listens at the socket that the pool names has to be root, or the owner of the pool. */
static int check_server(struct attachment *a)
{
	struct nbd_link link;
	int error = nbd_link_open(a->seen.nbd_path, a->seen.owner_uid, a->name, &link, &a->failure);
	if (!error)
		nbd_link_close(&link);
	return error;
}

static int fuse_attach(struct attachment *a)
{
	char file[PATH_MAX + 8];
	const char *loop[] = {"losetup", "--find", "--show", "--sector-size", "4096", file,
			      a->is_read_only ? "--read-only" : NULL, NULL};
	int error = check_server(a);
	if (!error)
		error = fuse_mount(a);
	snprintf(file, sizeof(file), "%s/nbd", a->folder);
	if (!error)
		error = program_run(loop, a->device, sizeof(a->device), &a->failure);
	if (error) {
		struct lcpfs_failure first = a->failure;
		(void)!fuse_unmount(a);
		a->failure = first;
	}
	return error;
}

static int fuse_detach(struct attachment *a)
{
	const char *arguments[] = {"losetup", "--detach", a->device, NULL};
	release_held(a);
	int error = program_run(arguments, NULL, 0, &a->failure);
	return error ? error : fuse_unmount(a);
}

/* The loop device's number may belong to somebody else's file by now. */
static bool fuse_is_there(struct attachment *a)
{
	char path[PATH_MAX], backing[PATH_MAX] = "", wanted[PATH_MAX + 8];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file", strrchr(a->device, '/') + 1);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fgets(backing, sizeof(backing), file))
		backing[strcspn(backing, "\n")] = '\0';
	fclose(file);
	snprintf(wanted, sizeof(wanted), "%s/nbd", a->folder);
	return !strcmp(backing, wanted);
}

/* ---- which of them ---- */

static const struct method methods[] = {
	{"nbd", "the kernel's nbd", nbd_missing, nbd_attach, nbd_detach, nbd_is_there, true},
	{"fuse", "nbdfuse and a loop device", fuse_missing, fuse_attach, fuse_detach, fuse_is_there, false},
};

static const struct method *method_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_LENGTH(methods); i++)
		if (!strcmp(methods[i].name, name))
			return &methods[i];
	return NULL;
}

/* NULL: none can be used; *failure says why. */
static const struct method *find_method(struct attachment *a)
{
	const char *wanted = cli_value(a->cli, "method"), *why[ARRAY_LENGTH(methods)];
	for (size_t i = 0; i < ARRAY_LENGTH(methods); i++) {
		why[i] = wanted && strcmp(wanted, methods[i].name) != 0 ? "not asked for" : methods[i].missing();
		if (!why[i])
			return &methods[i];
	}
	failure_set(&a->failure, LCPFS_E_SYSTEM, "%s cannot be attached here: nbd: %s; fuse: %s", a->name, why[0],
		    why[1]);
	return NULL;
}

/* ---- what is attached ---- */

static int lock_run(struct attachment *a)
{
	mkdir(RUN, 0700);
	int fd = open(RUN "/attach.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || flock(fd, LOCK_EX))
		return failure_set(&a->failure, LCPFS_E_SYSTEM, RUN "/attach.lock: %s", strerrordesc_np(errno));
	return 0; /* held until the end of the process */
}

/* What the record says, if it is still true. */
static const struct method *find_attached(struct attachment *a)
{
	const struct method *method = NULL;
	FILE *file = fopen(a->record_path, "re");

	if (!file)
		return NULL;
	if (fscanf(file, "%15s %63s %63s", a->method, a->device, a->nbd.owner) >= 2 && strrchr(a->device, '/'))
		method = method_named(a->method);
	fclose(file);
	return method && method->is_there(a) ? method : NULL;
}

static int write_record(struct attachment *a, const struct method *method)
{
	FILE *file = fopen(a->record_path, "we");
	int failed = !file;

	if (file) {
		fprintf(file, "%s %s %s\n", method->name, a->device, a->nbd.owner);
		failed = fclose(file);
	}
	if (failed)
		return failure_set(&a->failure, LCPFS_E_SYSTEM, "%s: %s", a->record_path, strerrordesc_np(errno));
	return 0;
}

static void show_device(struct attachment *a, const struct method *method)
{
	if (!cli_flag(a->cli, "json")) {
		printf("%s\n", a->device);
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "lcpfs: %s is %s, by %s\n", a->name, a->device, method->words);
		return;
	}
	struct json_object *object = json_object_new_object();
	field_put_text(object, "name", a->name);
	field_put_text(object, "device", a->device);
	field_put_text(object, "method", method->name);
	show_json(object);
	json_object_put(object);
}

/* ---- the server ---- */

static bool has_unit(void)
{
	static const char *const arguments[] = {"systemctl", "cat", "lcpfs@.service", NULL};
	return !access("/run/systemd/system", F_OK) && program_exists("systemctl") &&
	       !program_run(arguments, NULL, 0, NULL);
}

static int start_unit(struct attachment *a)
{
	const char *escape[] = {"systemd-escape", "--path", "--template=lcpfs@.service", a->pool_path, NULL};
	char unit[PATH_MAX], name[NAME_MAX + 1];
	const char *start[] = {"systemctl", "start", unit, NULL};
	int error = 0;
	if (config_find_pool(a->pool_path, name))
		snprintf(unit, sizeof(unit), "lcpfs@%s.service", name);
	else
		error = program_run(escape, unit, sizeof(unit), &a->failure);
	return error ? error : program_run(start, NULL, 0, &a->failure);
}

static int start_by_hand(struct attachment *a)
{
	char socket_path[64], log_path[64], self[PATH_MAX] = "";
	const char *arguments[] = {self, "serve", a->pool_path, "--socket", socket_path, NULL};
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) <= 0)
		snprintf(self, sizeof(self), "lcpfs");
	snprintf(socket_path, sizeof(socket_path), RUN "/%016" PRIx64 ".sock", a->seen.identity.guid);
	snprintf(log_path, sizeof(log_path), RUN "/%016" PRIx64 ".log", a->seen.identity.guid);
	return program_start(arguments, "lcpfs: serving ", log_path, &a->failure);
}

/* Its name is that of a partition, or NAME@SNAP. */
static bool is_snapshot(const struct attachment *a)
{
	return strchr(a->name, '@');
}

/* After `error`: the server knows no partition of that name. Perhaps it is a clone's. */
static int ask_for_clone(struct attachment *a, struct session_watch *watch, int error)
{
	struct json_object *list = NULL;
	struct lcpfs_failure failure;
	if (error != -LCPFS_E_NOT_FOUND || is_snapshot(a) || !watch->is_connected)
		return error;
	if (!session_watch_call(watch, "list", NULL, &list, &failure) && follow_find(list, "clones", a->name))
		error = 0;
	json_object_put(list);
	return error;
}

/* Asks the server for the partition: so it is the pool's own, and the partition is there. */
static int ask_server(struct attachment *a, bool *is_served)
{
	struct session_watch watch = {.pool_path = a->pool_path};
	struct json_object *result;
	int error = session_watch_call(&watch, is_snapshot(a) ? "snapshots" : "iostat", follow_arguments(a->name),
				       &result, &a->failure);
	*is_served = !error || watch.is_connected || a->failure.code != LCPFS_E_NOT_FOUND;
	error = ask_for_clone(a, &watch, error);
	session_watch_close(&watch);
	if (!error && is_snapshot(a) && !follow_find(result, "snapshots", a->name))
		error = failure_set(&a->failure, LCPFS_E_NOT_FOUND, "there is no snapshot %s", a->name);
	json_object_put(result);
	return error;
}

static int need_server(struct attachment *a)
{
	bool is_served;
	int error = ask_server(a, &is_served);
	if (error && !is_served) {
		error = has_unit() ? start_unit(a) : start_by_hand(a);
		if (!error)
			error = ask_server(a, &is_served);
	}
	if (!error)
		error = pool_look(a->pool_path, &a->seen, &a->failure);
	if (!error && !a->seen.nbd_path[0])
		error = failure_set(&a->failure, LCPFS_E_SYSTEM, "%s is served, but at no Unix socket",
				    a->pool_path);
	return error;
}

/* ---- the commands ---- */

static int begin(struct attachment *a)
{
	if (geteuid() != 0)
		return failure_set(&a->failure, LCPFS_E_SYSTEM, "%s: block devices are the kernel's: be root",
				   a->cli->command->name);
	if (!realpath(a->cli->operands[0], a->pool_path))
		return failure_set(&a->failure, LCPFS_E_SYSTEM, "%s: %s", a->cli->operands[0],
				   strerrordesc_np(errno));
	if (strcspn(a->name, "@") > LCPFS_NAME_MAX || strlen(a->name) > 2 * LCPFS_NAME_MAX + 1 ||
	    strchr(a->name, '/'))
		return failure_set(&a->failure, LCPFS_E_NOT_FOUND, "there is no partition %s", a->name);
	int error = pool_look(a->pool_path, &a->seen, &a->failure);
	if (error)
		return error;
	snprintf(a->record_path, sizeof(a->record_path), RUN "/%016" PRIx64 ".%s", a->seen.identity.guid, a->name);
	snprintf(a->folder, sizeof(a->folder), RUN "/%016" PRIx64 ".%s.nbd", a->seen.identity.guid, a->name);
	program_extend_path();
	return lock_run(a);
}

/* ---- only to say what would come of it ---- */

/* Is the partition there? By the server, or where there is none, by a look into the pool. */
static int check_partition(struct attachment *a, bool *is_served)
{
	struct session_call call = {.pool_path = a->pool_path, .command = is_snapshot(a) ? "snapshots" : "get"};
	struct json_object *result = NULL;
	int error = ask_server(a, is_served);
	if (!error || *is_served)
		return error;
	call.arguments = follow_arguments(a->name);
	error = session_run(&call, &result, &a->failure);
	if (!error && is_snapshot(a) && !follow_find(result, "snapshots", a->name))
		error = failure_set(&a->failure, LCPFS_E_NOT_FOUND, "there is no snapshot %s", a->name);
	json_object_put(result);
	if (error == -LCPFS_E_NOT_FOUND && !is_snapshot(a)) {
		struct session_call list = {.pool_path = a->pool_path, .command = "list"};
		struct lcpfs_failure failure;
		result = NULL;
		if (!session_run(&list, &result, &failure) && follow_find(result, "clones", a->name))
			error = 0;
		json_object_put(result);
	}
	return error;
}

static void show_foreseen(const struct attachment *a, const struct method *method, const char *text)
{
	if (!cli_flag(a->cli, "json")) {
		printf("would be: %s: %s\n", a->name, text);
		return;
	}
	struct json_object *object = json_object_new_object();
	field_put_text(object, "name", a->name);
	field_put(object, "device", *a->device ? json_object_new_string(a->device) : NULL);
	field_put_text(object, "method", method->name);
	field_put_flag(object, "dry_run", true);
	show_json(object);
	json_object_put(object);
}

static int foresee_attaching(struct attachment *a, const struct method *method)
{
	bool is_served = true, is_there = method != NULL;
	char text[128];
	if (!is_there) {
		a->device[0] = '\0';
		method = find_method(a);
	}
	int error = method ? 0 : -a->failure.code;
	if (!error && !is_there)
		error = check_partition(a, &is_served);
	if (error)
		return cli_failure(&a->failure);
	if (is_there)
		snprintf(text, sizeof(text), "%s, as it is already", a->device);
	else
		snprintf(text, sizeof(text), "attached by %s%s", method->words,
			 is_served ? "" : ", and a server started");
	show_foreseen(a, method, text);
	return CLI_DONE;
}

static int attach_new(struct attachment *a, const struct method **method)
{
	*method = find_method(a);
	if (!*method)
		return -a->failure.code;
	int error = need_server(a);
	if (!error)
		error = (*method)->attach(a);
	return error ? error : write_record(a, *method);
}

static int take_wait(const struct cli *cli, unsigned *seconds)
{
	const char *text = cli_value(cli, "wait");
	unsigned long n = WAIT_S;
	char *end = "";
	if (text)
		n = strtoul(text, &end, 10);
	if (text && (*text < '0' || *text > '9' || *end || n > WAIT_S_MAX))
		return cli_usage("--wait %s is not a number of seconds from 0 to %d", text, WAIT_S_MAX);
	*seconds = (unsigned)n;
	return 0;
}

int attach_command(const struct cli *cli)
{
	struct attachment a = {.cli = cli, .name = cli->operands[1], .held_fd = -1};
	const char *wanted = cli_value(cli, "method");
	a.is_read_only = a.nbd.is_read_only = cli_flag(cli, "read-only") || is_snapshot(&a);
	if (wanted && !method_named(wanted))
		return cli_usage("--method %s: it is nbd or fuse", wanted);
	int error = take_wait(cli, &a.nbd.wait_s);
	if (error)
		return error;
	error = begin(&a);
	const struct method *method = error ? NULL : find_attached(&a);
	if (!error && cli_flag(cli, "dry-run"))
		return foresee_attaching(&a, method);
	if (!error)
		error = method ? need_server(&a) : attach_new(&a, &method);
	if (error)
		return cli_failure(&a.failure);
	show_device(&a, method);
	return CLI_DONE;
}

/* Where it is mounted, as far as this process sees; "" if that cannot be told. */
static void find_mount(const char *device, char where[PATH_MAX])
{
	FILE *mounts = fopen("/proc/self/mounts", "re");
	char line[2 * PATH_MAX], source[PATH_MAX], target[PATH_MAX];

	where[0] = '\0';
	while (mounts && fgets(line, sizeof(line), mounts))
		if (sscanf(line, "%4095s %4095s", source, target) == 2 && !strcmp(source, device))
			snprintf(where, PATH_MAX, "%s", target);
	if (mounts)
		fclose(mounts);
}

static int refuse_use(struct attachment *a)
{
	char where[PATH_MAX];
	find_mount(a->device, where);
	return failure_set(&a->failure, LCPFS_E_BUSY, "%s, which is %s, is in use%s%s: unmount it first", a->name,
			   a->device, *where ? ", mounted at " : "", where);
}

/*
 * The kernel lets a device that is mounted, or has one laid over it, be opened by nobody else exclusively. Not for
 * writing: when such a one is closed, udev looks at the device, which is gone by then.
 */
static int hold(struct attachment *a)
{
	a->held_fd = open(a->device, O_RDONLY | O_EXCL | O_CLOEXEC);
	return a->held_fd < 0 ? errno : 0;
}

static int write_back(struct attachment *a)
{
	int error = hold(a);
	if (error == EBUSY)
		return refuse_use(a);
	if (!error && !cli_flag(a->cli, "dry-run") && fsync(a->held_fd))
		error = errno;
	if (error && !cli_flag(a->cli, "force"))
		return failure_set(&a->failure, LCPFS_E_IO,
				   "%s: what was written to it cannot be made durable (%s); --force detaches it "
				   "all the same",
				   a->device, strerrordesc_np(error));
	return 0;
}

/* Whatever is asked of the device would wait: even closing it, where something was written. */
static int without_server(struct attachment *a)
{
	char where[PATH_MAX];
	find_mount(a->device, where);
	if (*where)
		return refuse_use(a);
	if (!cli_flag(a->cli, "force"))
		return failure_set(
			&a->failure, LCPFS_E_IO,
			"%s: its server is gone, so what was written to it cannot be made durable: start "
			"it, or --force detaches it all the same",
			a->device);
	return cli_flag(a->cli, "dry-run") || hold(a) != EBUSY ? 0 : refuse_use(a);
}

static int end_use(struct attachment *a, const struct method *method)
{
	bool is_served = true;
	struct lcpfs_failure asked = a->failure;
	if (method->waits)
		(void)!ask_server(a, &is_served);
	a->failure = asked;
	return is_served ? write_back(a) : without_server(a);
}

int detach_command(const struct cli *cli)
{
	struct attachment a = {.cli = cli, .name = cli->operands[1], .held_fd = -1};
	int error = begin(&a);
	const struct method *method = error ? NULL : find_attached(&a);
	if (!error && !method)
		error = failure_set(&a.failure, LCPFS_E_NOT_FOUND, "%s is not attached", a.name);
	if (!error)
		error = end_use(&a, method);
	if (!error && cli_flag(cli, "dry-run")) {
		char text[sizeof(a.device) + 16];
		snprintf(text, sizeof(text), "%s detached", a.device);
		show_foreseen(&a, method, text);
		return CLI_DONE;
	}
	if (!error)
		error = method->detach(&a);
	if (error)
		return cli_failure(&a.failure);
	unlink(a.record_path);
	if (cli_flag(cli, "json"))
		show_device(&a, method);
	return CLI_DONE;
}
