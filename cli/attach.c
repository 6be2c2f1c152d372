/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lcpfs attach, detach: a partition as a block device of this machine.
 *
 * The kernel's nbd does it best, by nbd-client; where there is none, nbdfuse shows the volume as a file, and a
 * loop device is laid over it. What is attached stands in a file for each partition in RUN, until the machine
 * restarts or detach removes it; a file whose device is not there any more counts for nothing. A lock on RUN lets
 * one attach or detach go on at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "cli.h"
#include "control/field.h"
#include "control/socket.h"
#include "pool/pool.h"
#include "program.h"
#include "session.h"
#include "show.h"

#define RUN "/run/lcpfs"

enum { DEVICE_TEXT = 64, NBD_DEVICES_MAX = 256, FUSE_MAGIC = 0x65735546 };

struct attachment {
	const struct cli *cli;
	const char *name;
	char pool_path[PATH_MAX];
	struct pool_seen seen;
	char record_path[PATH_MAX]; /* the file that says what is attached */
	char folder[PATH_MAX];      /* of nbdfuse's file */
	char method[16], device[DEVICE_TEXT];
	bool is_read_only;
	struct lcpfs_failure failure;
};

struct method {
	const char *name, *words;
	const char *(*missing)(void); /* NULL: it can be used; else what lacks */
	int (*attach)(struct attachment *a);
	int (*detach)(struct attachment *a);
	bool (*is_there)(const struct attachment *a); /* a->device is still what was attached */
};

/* ---- the kernel's nbd ---- */

static bool nbd_is_connected(const char *device)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/block/%s/pid", strrchr(device, '/') + 1);
	return !access(path, F_OK);
}

static const char *nbd_missing(void)
{
	static const char *const modprobe[] = {"modprobe", "-q", "nbd", NULL};

	if (!program_exists("nbd-client"))
		return "no nbd-client";
	if (access("/sys/block/nbd0", F_OK) && program_run(modprobe, NULL, 0, NULL))
		return "the kernel has no nbd";
	return access("/dev/nbd0", F_OK) ? "there is no /dev/nbd0" : NULL;
}

static int nbd_connect(struct attachment *a)
{
	const char *arguments[] = {
		"nbd-client", "-unix", a->seen.nbd_path, a->device, "-N", a->name, "-b", "4096",
		a->is_read_only ? "-readonly" : NULL, NULL};

	return program_run(arguments, NULL, 0, &a->failure);
}

/* The first that is free. One that somebody else takes at the same moment refuses, and the next is tried. */
static int nbd_attach(struct attachment *a)
{
	int error = failure_set(&a->failure, LCPFS_E_BUSY, "all nbd devices are in use");

	for (unsigned i = 0; i < NBD_DEVICES_MAX && error; i++) {
		snprintf(a->device, sizeof(a->device), "/dev/nbd%u", i);
		if (access(a->device, F_OK))
			break;
		if (!nbd_is_connected(a->device))
			error = nbd_connect(a);
	}
	return error;
}

static int nbd_detach(struct attachment *a)
{
	const char *arguments[] = {"nbd-client", "-d", a->device, NULL};
	struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
	int error = program_run(arguments, NULL, 0, &a->failure);

	for (int i = 0; !error && nbd_is_connected(a->device) && i < 100; i++)
		nanosleep(&pause, NULL);
	return error;
}

static bool nbd_is_there(const struct attachment *a)
{
	return nbd_is_connected(a->device);
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

static int fuse_attach(struct attachment *a)
{
	char file[PATH_MAX + 8];
	const char *loop[] = {"losetup", "--find", "--show", "--sector-size", "4096", file,
			      a->is_read_only ? "--read-only" : NULL, NULL};
	int error = fuse_mount(a);

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
	int error = program_run(arguments, NULL, 0, &a->failure);

	return error ? error : fuse_unmount(a);
}

/* The loop device's number may belong to somebody else's file by now. */
static bool fuse_is_there(const struct attachment *a)
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
	{"nbd", "the kernel's nbd", nbd_missing, nbd_attach, nbd_detach, nbd_is_there},
	{"fuse", "nbdfuse and a loop device", fuse_missing, fuse_attach, fuse_detach, fuse_is_there},
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
	int fd;

	mkdir(RUN, 0700);
	fd = open(RUN "/attach.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
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
	if (fscanf(file, "%15s %63s", a->method, a->device) == 2 && strrchr(a->device, '/'))
		method = method_named(a->method);
	fclose(file);
	return method && method->is_there(a) ? method : NULL;
}

static int write_record(struct attachment *a, const struct method *method)
{
	FILE *file = fopen(a->record_path, "we");
	int failed = !file;

	if (file) {
		fprintf(file, "%s %s\n", method->name, a->device);
		failed = fclose(file);
	}
	if (failed)
		return failure_set(&a->failure, LCPFS_E_SYSTEM, "%s: %s", a->record_path, strerrordesc_np(errno));
	return 0;
}

static void show_device(struct attachment *a, const struct method *method)
{
	struct json_object *object;

	if (!cli_flag(a->cli, "json")) {
		printf("%s\n", a->device);
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "lcpfs: %s is %s, by %s\n", a->name, a->device, method->words);
		return;
	}
	object = json_object_new_object();
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
	char unit[PATH_MAX];
	const char *start[] = {"systemctl", "start", unit, NULL};
	int error = program_run(escape, unit, sizeof(unit), &a->failure);

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

/* The pool may name any socket: whoever listens there has to be root, or the owner of the pool. */
static int check_peer(struct attachment *a)
{
	struct ucred peer = {0};
	socklen_t length = sizeof(peer);
	int fd, error = socket_connect(a->seen.nbd_path, &fd, &a->failure);

	if (error)
		return error;
	error = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length);
	close(fd);
	if (!error && (peer.uid == 0 || peer.uid == a->seen.owner_uid))
		return 0;
	return failure_set(&a->failure, LCPFS_E_BUSY, "whoever listens at %s is not the owner of %s",
			   a->seen.nbd_path, a->pool_path);
}

/* Its name is that of a partition, or NAME@SNAP. */
static bool is_snapshot(const struct attachment *a)
{
	return strchr(a->name, '@');
}

static struct json_object *partition_argument(const struct attachment *a)
{
	struct json_object *arguments = json_object_new_object();
	char name[LCPFS_NAME_MAX + 1] = "";

	memcpy(name, a->name, MIN_OF(strcspn(a->name, "@"), (size_t)LCPFS_NAME_MAX));
	field_put_text(arguments, "name", name);
	return arguments;
}

/* `result`: of "snapshots". */
static int check_snapshot(struct attachment *a, struct json_object *result)
{
	struct json_object *snapshots = field_get(result, "snapshots");

	for (size_t i = 0; i < field_length(snapshots); i++) {
		const char *name = field_text(json_object_array_get_idx(snapshots, i), "name");
		if (name && !strcmp(name, a->name))
			return 0;
	}
	return failure_set(&a->failure, LCPFS_E_NOT_FOUND, "there is no snapshot %s", a->name);
}

/* Asks the server for the partition: so it is the pool's own, and the partition is there. */
static int ask_server(struct attachment *a, bool *is_served)
{
	struct session_watch watch = {.pool_path = a->pool_path};
	struct json_object *result;
	int error = session_watch_call(&watch, is_snapshot(a) ? "snapshots" : "iostat", partition_argument(a),
				       &result, &a->failure);

	*is_served = !error || watch.is_connected || a->failure.code != LCPFS_E_NOT_FOUND;
	session_watch_close(&watch);
	if (!error && is_snapshot(a))
		error = check_snapshot(a, result);
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
	return error ? error : check_peer(a);
}

/* ---- the commands ---- */

static int begin(struct attachment *a)
{
	int error;

	if (geteuid() != 0)
		return failure_set(&a->failure, LCPFS_E_SYSTEM, "%s: block devices are the kernel's: be root",
				   a->cli->command->name);
	if (!realpath(a->cli->operands[0], a->pool_path))
		return failure_set(&a->failure, LCPFS_E_SYSTEM, "%s: %s", a->cli->operands[0],
				   strerrordesc_np(errno));
	if (strcspn(a->name, "@") > LCPFS_NAME_MAX || strlen(a->name) > 2 * LCPFS_NAME_MAX + 1 ||
	    strchr(a->name, '/'))
		return failure_set(&a->failure, LCPFS_E_NOT_FOUND, "there is no partition %s", a->name);
	error = pool_look(a->pool_path, &a->seen, &a->failure);
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
	call.arguments = partition_argument(a);
	error = session_run(&call, &result, &a->failure);
	if (!error && is_snapshot(a))
		error = check_snapshot(a, result);
	json_object_put(result);
	return error;
}

static void show_foreseen(const struct attachment *a, const struct method *method, const char *text)
{
	struct json_object *object;

	if (!cli_flag(a->cli, "json")) {
		printf("would be: %s: %s\n", a->name, text);
		return;
	}
	object = json_object_new_object();
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
	int error;

	if (!is_there) {
		a->device[0] = '\0';
		method = find_method(a);
	}
	error = method ? 0 : -a->failure.code;
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
	int error;

	*method = find_method(a);
	if (!*method)
		return -a->failure.code;
	error = need_server(a);
	if (!error)
		error = (*method)->attach(a);
	return error ? error : write_record(a, *method);
}

int attach_command(const struct cli *cli)
{
	struct attachment a = {.cli = cli, .name = cli->operands[1]};
	const char *wanted = cli_value(cli, "method");
	const struct method *method;
	int error;

	a.is_read_only = cli_flag(cli, "read-only") || is_snapshot(&a);
	if (wanted && !method_named(wanted))
		return cli_usage("--method %s: it is nbd or fuse", wanted);
	error = begin(&a);
	method = error ? NULL : find_attached(&a);
	if (!error && cli_flag(cli, "dry-run"))
		return foresee_attaching(&a, method);
	if (!error && !method)
		error = attach_new(&a, &method);
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

/* The kernel lets a device that is mounted, or has one laid over it, be opened by nobody else exclusively. */
static int write_back(struct attachment *a)
{
	int fd = open(a->device, (a->is_read_only ? O_RDONLY : O_RDWR) | O_EXCL | O_CLOEXEC), error = 0;
	char where[PATH_MAX];

	if (fd < 0 && errno == EROFS)
		fd = open(a->device, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY) {
		find_mount(a->device, where);
		return failure_set(&a->failure, LCPFS_E_BUSY, "%s, which is %s, is in use%s%s: unmount it first",
				   a->name, a->device, *where ? ", mounted at " : "", where);
	}
	if (fd < 0 || (!cli_flag(a->cli, "dry-run") && fsync(fd)))
		error = errno;
	if (fd >= 0)
		close(fd);
	if (error && !cli_flag(a->cli, "force"))
		return failure_set(&a->failure, LCPFS_E_IO,
				   "%s: what was written to it cannot be made durable (%s); --force detaches it "
				   "all the same",
				   a->device, strerrordesc_np(error));
	return 0;
}

int detach_command(const struct cli *cli)
{
	struct attachment a = {.cli = cli, .name = cli->operands[1]};
	const struct method *method;
	int error = begin(&a);

	method = error ? NULL : find_attached(&a);
	if (!error && !method)
		error = failure_set(&a.failure, LCPFS_E_NOT_FOUND, "%s is not attached", a.name);
	if (!error)
		error = write_back(&a);
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
